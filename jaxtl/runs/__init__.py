"""A run's folder: every file by name, its data, its figures, its export."""
