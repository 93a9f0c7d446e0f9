"""Data sets: facts, loading, the prepared copy, the copy on the device, augmentation."""
