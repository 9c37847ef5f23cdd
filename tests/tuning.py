"""How far the tests of fine-tuning train: the batches that `train` in conftest.py holds."""

BATCH = 32
STEPS = 50
