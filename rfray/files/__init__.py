"""Files on disk: atomic writes, artifacts with digests, YAML."""
