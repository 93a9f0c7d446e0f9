"""What a stage computes on, as far as its memory goes: a GPU, or the processor."""
