"""python benchmarks/train_gpu.py: rfray's training loop on a GPU beside a plain one.

The plain loop is what most people write for a GPU: a DataLoader with eight workers and pinned
memory, torchvision's transforms on each picture, `.to("cuda", non_blocking=True)`, autocast to
bfloat16, and the loss read at each step. All of them see the same pictures (random uint8 of
CIFAR-10's shape, padded crop and flip) in batches of 128, with the paper's clipping. Epochs
alternate between the contestants, the first two of each are not counted (cuDNN tries its
algorithms, torch.compile compiles), medians are printed, in images a second.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from side_by_side import print_and_write, versions
from torch import nn
from torch.utils.data import DataLoader
from train import FACTS, Pictures

from rfray.data.dataset import Dataset, Split
from rfray.models.module import build
from rfray.models.registry import architecture
from rfray.training.determinism import arithmetic_of
from rfray.training.loop import train_epochs
from rfray.training.optimization import optimizer_for
from rfray.training.protocol import TrainingProtocol

CASES = (
    ("vgg19_rf", 1.0, 2),
    ("vgg19_rf", 1.0, 5),
    ("resnet50", 1.0, 2),
    ("resnet50", 1.0, 5),
    ("vgg19_rf", 0.125, 5),
    ("resnet50", 0.125, 5),
)
WAYS: dict[str, dict[str, object]] = {
    "float32": {"precision": "float32", "cuda_graph": False},
    "bfloat16": {"cuda_graph": False},
    "compile": {"compile": True},
    "graph": {},
    "deterministic": {"deterministic": True, "cuda_graph": False},
}
"""rfray's, by what their protocol says; all but the first compute in bfloat16."""
BATCH = 128
UNCOUNTED = 2
RESULTS = Path(__file__).parent / "results" / "train_gpu.md"

Epoch = Callable[[], None]


def plain_epoch(module: nn.Module, protocol: TrainingProtocol, split: Split) -> Epoch:
    optimizer = optimizer_for(module, protocol)
    module.to(memory_format=torch.channels_last)
    loader = DataLoader(
        Pictures(split),
        BATCH,
        shuffle=True,
        num_workers=8,
        persistent_workers=True,
        pin_memory=True,
    )

    def epoch() -> None:
        module.train()
        for pictures, numbers in loader:
            images = pictures.to("cuda", non_blocking=True, memory_format=torch.channels_last)
            labels = numbers.to("cuda", non_blocking=True)
            with torch.autocast("cuda", torch.bfloat16):
                loss = F.cross_entropy(module(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), protocol.gradient_clip)
            optimizer.step()
            loss.item()

    return epoch


def rfray_epoch(module: nn.Module, protocol: TrainingProtocol, dataset: Dataset) -> Epoch:
    epochs = train_epochs(module, optimizer_for(module, protocol), dataset, protocol, seed=0)

    def epoch() -> None:
        with arithmetic_of(protocol):
            next(epochs)

    return epoch


def seconds(epoch: Epoch) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    epoch()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(arch: str, width: float, kernel_size: int, images: int, repeats: int) -> list[str]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, 3, FACTS.image_size, FACTS.image_size), dtype=np.uint8)
    layout = torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last)
    split = Split(layout, torch.from_numpy(rng.integers(0, 10, images)))
    there = Split(split.images.cuda(), split.labels.cuda())
    network = architecture(arch)(kernel_size, width, FACTS.classes)

    def protocol(**changes: object) -> TrainingProtocol:
        return TrainingProtocol(epochs=repeats + UNCOUNTED, batch_size=BATCH, **changes)

    contestants = {"plain": plain_epoch(build(network, 0).cuda(), protocol(), split)}
    for way, changes in WAYS.items():
        if way == "compile" and width < 1:
            continue  # a minute of compiling for seconds of training
        contestants[way] = rfray_epoch(
            build(network, 0).cuda(), protocol(**changes), Dataset(FACTS, there, there)
        )
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats + UNCOUNTED):
        for name, epoch in contestants.items():
            taken[name].append(seconds(epoch))
    rates = {name: images / statistics.median(t[UNCOUNTED:]) for name, t in taken.items()}
    best = max(rate for way, rate in rates.items() if way != "plain")
    row = [
        arch,
        f"{width:g}",
        str(kernel_size),
        *(f"{rates[way]:,.0f}" if way in rates else "–" for way in ("plain", *WAYS)),
        f"{rates['bfloat16'] / rates['plain']:.2f}",
        f"{best / rates['plain']:.2f}",
    ]
    print(*row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = [measure(*case, options.images, options.repeats) for case in CASES]
    print_and_write(
        options.results,
        "# Training on a GPU: rfray's loop against a plain PyTorch loop, images a second",
        f"`python benchmarks/train_gpu.py --repeats {options.repeats} --images {options.images}`; "
        f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, {versions('torchvision')}; "
        f"batches of {BATCH}, medians of alternating epochs, the first {UNCOUNTED} not counted. "
        "All but `float32` compute in bfloat16.",
        ["network", "width", "k", "plain", *WAYS, "bfloat16 / plain", "best / plain"],
        rows,
    )


if __name__ == "__main__":
    main()
