"""The device of a stage, a GPU or the CPU: its memory, precision and name."""
