"""What a stage computes on, a GPU or the processor: its memory, precision and name."""
