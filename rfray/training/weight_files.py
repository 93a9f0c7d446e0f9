"""What the weights of a network are called on disk; known without torch."""

MODEL = "model.safetensors"
"""A network's weights, whole."""

CHANGES = "model-changes.npz"
"""What changed from the training run's `model.safetensors`."""

INITIAL = "init.safetensors"
"""The initial weights, whole; left where drawing them again does not give the same."""

INITIAL_NOTE = "init.json"
"""What the initial weights are drawn from, and the digest by which they are known."""

WEIGHT_FILES = (MODEL, CHANGES, INITIAL)
"""What takes room, and can be computed again."""
