"""The sweep: the same experiment with other layers that learn, image sizes and weights, compared."""
