"""Independent random streams, one per purpose: none depends on what another has drawn."""

import hashlib


def stream_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, such as `("epoch", 3)`, from the experiment's `seed`."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
