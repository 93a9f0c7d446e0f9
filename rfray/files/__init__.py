"""Files on disk: whole or not at all, with their digests, and YAML as people mean it."""
