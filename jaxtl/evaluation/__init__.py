"""Catalogue of metrics and their sources; scores of a run and of several seeds; depth profile; claims."""
