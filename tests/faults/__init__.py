"""Campaigns against jaxtl: what damaged files, signals and full disks do to it. Long forms print counts."""
