"""Data sets: facts, loading, the copy on the device."""
