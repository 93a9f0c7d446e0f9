"""python benchmarks/train.py: rfray's training loop beside a plain one of the same network.

The plain loop is what most people write: a DataLoader with two workers, torchvision transforms
on each picture, the same batches, optimiser, clipping and threads. Both see the same pictures
(random uint8 of CIFAR-10's shape, padded crop and flip). Epochs alternate between the two, the
first of each is not counted, medians are printed. Both do the same arithmetic, but rfray leaves out
the taps that only meet padding (at k = 5: 78.6 % of vgg19_rf's, 23.5 % of resnet50's). The last
column is the share of rfray's epoch that is spent outside forward, backward and optimiser step:
what the same epoch takes with a network that does nothing, less that network's own steps.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from side_by_side import Contestant, alternating, print_and_write, versions
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

from rfray.data.dataset import Dataset, Split
from rfray.data.registry import dataset_source
from rfray.models.module import build
from rfray.models.registry import architecture
from rfray.training.loop import train_epochs
from rfray.training.optimization import optimizer_for
from rfray.training.protocol import TrainingProtocol

FACTS = dataset_source("cifar10").facts
CASES = (
    ("vgg19_rf", 0.125, 2, 2048, 128),
    ("vgg19_rf", 0.125, 5, 8192, 128),
    ("resnet50", 0.125, 2, 1024, 128),
    ("resnet50", 0.125, 5, 4096, 128),
    ("vgg19_rf", 1.0, 2, 128, 32),
    ("vgg19_rf", 1.0, 5, 512, 32),
    ("resnet50", 1.0, 2, 64, 32),
    ("resnet50", 1.0, 5, 256, 32),
)
"""Network, width, kernel size, images in an epoch (a few seconds' worth), images in a batch."""
RESULTS = Path(__file__).parent / "results" / "train.md"


class Pictures(torch.utils.data.Dataset):
    """What torchvision's CIFAR10 gives: one transformed picture and its label."""

    def __init__(self, split: Split) -> None:
        self.pictures = split.images.permute(0, 2, 3, 1).numpy()
        self.labels = split.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(FACTS.image_size, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(FACTS.mean, FACTS.deviation),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[index]), self.labels[index]


def step(
    module: nn.Module, optimizer: torch.optim.SGD, images: Tensor, labels: Tensor, clip: float
) -> None:
    loss = F.cross_entropy(module(images), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), clip)
    optimizer.step()
    loss.item()


def plain_epoch(module: nn.Module, protocol: TrainingProtocol, split: Split) -> Callable[[], None]:
    optimizer = optimizer_for(module, protocol)
    loader = DataLoader(
        Pictures(split), protocol.batch_size, shuffle=True, num_workers=2, persistent_workers=True
    )

    def epoch() -> None:
        module.train()
        for images, labels in loader:
            step(module, optimizer, images, labels, protocol.gradient_clip)

    return epoch


def rfray_epoch(
    module: nn.Module, protocol: TrainingProtocol, dataset: Dataset
) -> Callable[[], None]:
    epochs = train_epochs(module, optimizer_for(module, protocol), dataset, protocol, seed=0)
    return lambda: next(epochs)


class Nothing(nn.Module):
    """Ten logits that are the same for every image."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(10))

    def forward(self, images: Tensor) -> Tensor:
        """(images, 10)."""
        return self.bias.expand(len(images), -1)


def nothings_steps(protocol: TrainingProtocol, split: Split) -> Callable[[], None]:
    module = Nothing()
    optimizer = optimizer_for(module, protocol)
    images, labels = split.images[: protocol.batch_size], split.labels[: protocol.batch_size]

    def epoch() -> None:
        for _ in range(len(split) // protocol.batch_size):
            step(module, optimizer, images, labels, protocol.gradient_clip)

    return epoch


def measure(
    arch: str, width: float, kernel_size: int, images: int, batch: int, repeats: int
) -> list[str]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, 3, FACTS.image_size, FACTS.image_size), dtype=np.uint8)
    # As a prepared data set lies in memory.
    layout = torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last)
    split = Split(layout, torch.from_numpy(rng.integers(0, 10, images)))
    dataset = Dataset(FACTS, train=split, test=split)
    protocol = TrainingProtocol(epochs=repeats + 1, batch_size=batch, learning_rate=0.01)
    network = architecture(arch)(kernel_size, width, FACTS.classes)
    contestants = {
        "plain": plain_epoch(build(network, 0), protocol, split),
        "rfray": rfray_epoch(build(network, 0), protocol, dataset),
        "rfray, nothing": rfray_epoch(Nothing(), protocol, dataset),
        "nothing": nothings_steps(protocol, split),
    }
    times = alternating(
        {name: Contestant(call, repeats, uncounted=1) for name, call in contestants.items()}
    )
    median = {name: statistics.median(taken) for name, taken in times.items()}
    ratios = [p / r for p, r in zip(times["plain"], times["rfray"], strict=True)]
    outside = (median["rfray, nothing"] - median["nothing"]) / median["rfray"]
    row = [
        arch,
        f"{width:g}",
        str(kernel_size),
        str(batch),
        f"{images / median['plain']:.1f}",
        f"{images / median['rfray']:.1f}",
        f"{statistics.median(ratios):.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        f"{outside:.1%}",
    ]
    print(*row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measure(*case, options.repeats) for case in CASES]
    print_and_write(
        RESULTS,
        "# Training: rfray's loop against a plain PyTorch loop",
        f"`python benchmarks/train.py --repeats {options.repeats} --threads {options.threads}`; "
        f"{versions('torchvision')}, {options.threads} threads, "
        "DataLoader with 2 workers; medians of alternating epochs, the first not counted.",
        [
            "network",
            "width",
            "k",
            "batch",
            "plain, img/s",
            "rfray, img/s",
            "ratio",
            "range",
            "outside steps",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
