"""Seconds and bytes against n: what a thing will take."""
