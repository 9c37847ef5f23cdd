"""The records and their files, whole or absent."""
