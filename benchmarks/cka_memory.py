"""python benchmarks/cka_memory.py: memory that the kernel alignment of one full network takes.

ResNet50 at full width with the smallest pool, whose maps are the largest of the study, on 1,000
random images of 32×32 and of 64×64 pixels, random weights. Each size runs in a process of its own:
what it holds with weights, images and all libraries in place is subtracted from its peak (Linux).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

from rfray.models.module import build
from rfray.models.registry import architecture
from rfray.stages.cka import MAP_BYTES
from rfray.stages.gram_rows import blocks_within, gram_rows

STATUS = Path("/proc/self/status")


def megabytes(field: str) -> float:
    """`VmRSS` (held now) or `VmHWM` (the most ever held) of this process."""
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) * 1024 / 1e6


def measure(size: int, images: int, threads: int) -> str:
    torch.set_num_threads(threads)
    network = architecture("resnet50")(2, 1.0, 10)
    module = build(network, 0).eval().to(memory_format=torch.channels_last)
    pictures = torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(0))
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    blocks = blocks_within(network, size, images, MAP_BYTES)
    gram_rows(module, pictures[:8])  # loads what PyTorch loads late: code, not data
    before, started = megabytes("VmRSS"), time.perf_counter()
    gram_rows(module, pictures, blocks)
    return (
        f"{size}×{size}, {images} images: {megabytes('VmHWM') - before:.0f} MB above weights and "
        f"images; {blocks - 1} forward pass(es), "
        f"{time.perf_counter() - started:.0f} s on {threads} threads"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, help="measure this size alone, in this process")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.size is not None:
        print(measure(options.size, options.images, options.threads), flush=True)
        return
    for size in (32, 64):
        own = [sys.executable, __file__, "--size", str(size)]
        own += ["--images", str(options.images), "--threads", str(options.threads)]
        subprocess.run(own, check=True)


if __name__ == "__main__":
    main()
