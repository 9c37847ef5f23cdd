"""Checkpoints of other frameworks as jaxtl's safetensors: `python -m weights_convert`."""
