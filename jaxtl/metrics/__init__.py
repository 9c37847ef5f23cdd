"""Numbers that say what a picture shows."""

from jaxtl.metrics.separability import knn_accuracy as knn_accuracy
