"""The names of files with weights; this module does not import torch."""

MODEL = "model.safetensors"
"""All weights of a network."""

CHANGES = "model-changes.npz"
"""The changes from the training run's `model.safetensors`."""

INITIAL = "init.safetensors"
"""All initial weights; written only if drawing them again does not give the same weights."""

INITIAL_NOTE = "init.json"
"""The cell from which the initial weights are drawn, and their digest."""

WEIGHT_FILES = (MODEL, CHANGES, INITIAL)
"""The files that need much space and can be computed again."""
