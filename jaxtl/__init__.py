"""jaxtl: what transfer learning does to a network's features, in pictures and in numbers."""

__version__ = "0.1.0"
