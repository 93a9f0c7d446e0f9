"""python benchmarks/cka.py: kernel alignment of five networks, by rfray and by its peers.

ResNet50 at width 1/4 and k = 5, 53 convolutions and the classifier, five seeds, all ten pairs of
seeds, 512 digits images of 32×32. Fresh weights, batch norms with the statistics of these images.
All contestants get the images as one batch and networks and images with channels last, which is
the faster layout of the bare forward passes too; no gradients; the same threads.

rfray does what its stage does, but for reading weights and writing files. torch_cka and pytorch-cka
compare two networks a call; where a peer is slow fewer pairs are measured, and the time is scaled
to ten, which the table says. ckatorch's `CKA` class takes features of three dimensions, which maps
are not, so its function for one pair of layers, `cka_base`, is given the features of two forward
passes; of one pair of networks every sixth layer of each is measured, and scaled to all.

rfray and the bare passes first take turns alone in the fresh process, as a stage runs in: both pay
for new memory. The later calls of the peers leave PyTorch's allocator with large blocks to give out
again, which more than halves the bare passes; the table is of those turns, the line below it of the
first ones.

The last column is the largest distance, over the layers measured, from the estimator that a
contestant means to compute, in float64 by explicit matrices: HSIC₀ of Kornblith 2019 for rfray and
ckatorch, the unbiased HSIC₁ of Nguyen 2021 for torch_cka and pytorch-cka (which cuts it to 0 … 1).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from itertools import combinations
from pathlib import Path
from types import ModuleType

import ckatorch
import torch
import torch_cka
from side_by_side import Contestant, alternating, print_and_write, ratio, versions
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from rfray.data.device import normalised, resident
from rfray.models.module import NetworkModule, build
from rfray.models.registry import architecture
from rfray.numerics.kernel_alignment import alignment
from rfray.stages.cka import MAP_BYTES
from rfray.stages.gram_rows import blocks_within, gram_rows

RESULTS = Path(__file__).parent / "results" / "cka.md"
EVERY = 6
"""ckatorch is measured on every so many layers of each network."""


def peer_of_this_name() -> ModuleType:
    """pytorch-cka, whose package is called `cka`: Python would find this very script."""
    here = Path(__file__).parent.resolve()
    spec = PathFinder.find_spec("cka", [p for p in sys.path if Path(p).resolve() != here])
    if spec is None or spec.loader is None:
        raise SystemExit("pytorch-cka is missing: pip install 'rfray[bench]'")
    package = module_from_spec(spec)
    sys.modules["cka"] = package
    spec.loader.exec_module(package)
    return package


@dataclass
class Problem:
    """Five networks in eval mode and a batch of images."""

    modules: list[NetworkModule]
    images: Tensor
    layers: list[str]
    found: dict[str, Tensor] = field(default_factory=dict)
    """What each contestant gives for the first two networks, by its name."""

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """All pairs of networks."""
        return list(combinations(range(len(self.modules)), 2))

    def loader(self) -> DataLoader[tuple[Tensor, ...]]:
        """All images as one batch."""
        return DataLoader(TensorDataset(self.images), batch_size=len(self.images))


def problem(width: float, kernel_size: int, images: int, seeds: int) -> Problem:
    data = resident("digits", "cpu")
    batch = normalised(data.train.images[:images], data.facts)
    network = architecture("resnet50")(kernel_size, width, data.facts.classes)
    modules = [warmed(build(network, seed), batch) for seed in range(seeds)]
    return Problem(modules, batch, [layer.name for layer in network.weight_layers])


def warmed(module: NetworkModule, images: Tensor) -> NetworkModule:
    """With channels last and the statistics of these images in its batch norms."""
    module = module.to(memory_format=torch.channels_last)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # the statistics of the batch, not a running mean
    with torch.no_grad():
        module.train()(images)
    return module.eval()


def bare(given: Problem) -> Callable[[], None]:
    def call() -> None:
        with torch.inference_mode():
            for module in given.modules:
                module(given.images)

    return call


def rfrays(given: Problem) -> Callable[[], None]:
    def call() -> None:
        network, size = given.modules[0].network, given.images.shape[2]
        blocks = blocks_within(network, size, len(given.images), MAP_BYTES)
        rows = [gram_rows(module, given.images, blocks) for module in given.modules]
        matrices = [alignment(rows[a], rows[b]) for a, b in given.pairs]
        given.found["rfray"] = matrices[0]

    return call


def torch_ckas(given: Problem, pairs: int) -> Callable[[], None]:
    def call() -> None:
        for a, b in given.pairs[:pairs]:
            first, second = given.modules[a], given.modules[b]
            with hooks_removed(first, second), quiet(), torch.no_grad():
                peer = torch_cka.CKA(
                    first, second, "first", "second", given.layers, given.layers, device="cpu"
                )
                peer.compare(given.loader(), given.loader())
                given.found.setdefault("torch_cka", peer.export()["CKA"])

    return call


def pytorch_ckas(given: Problem, pairs: int) -> Callable[[], None]:
    pytorch_cka = peer_of_this_name()

    def call() -> None:
        for a, b in given.pairs[:pairs]:
            (matrix,) = pytorch_cka.compute_cka(
                given.modules[a],
                given.modules[b],
                given.loader(),
                layers=given.layers,
                device="cpu",
                progress=False,
            )
            given.found.setdefault("pytorch-cka", matrix)

    return call


def ckatorchs(given: Problem) -> Callable[[], None]:
    def call() -> None:
        first, second = (features(module, given)[::EVERY] for module in given.modules[:2])
        given.found["ckatorch"] = torch.tensor(
            [[float(ckatorch.cka_base(x, y)) for y in second] for x in first]
        )

    return call


def features(module: NetworkModule, given: Problem) -> list[Tensor]:
    """Of each layer (images, features), from one forward pass."""
    with hooks_removed(module), torch.no_grad():
        kept: list[Tensor] = []
        for layer in given.layers:
            module.get_submodule(layer).register_forward_hook(
                lambda _module, _inputs, output: kept.append(output.flatten(1))
            )
        module(given.images)
    return kept


@contextlib.contextmanager
def hooks_removed(*modules: nn.Module) -> Iterator[None]:
    """Takes all forward hooks off again: torch_cka leaves its own behind."""
    try:
        yield
    finally:
        for module in modules:
            for part in module.modules():
                part._forward_hooks.clear()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


def grams(given: Problem, network: int) -> list[Tensor]:
    return [x.double() @ x.double().T for x in features(given.modules[network], given)]


def reference(
    first: Sequence[Tensor], second: Sequence[Tensor], prepared: Callable[[Tensor], Tensor]
) -> Tensor:
    """CKA of all layers by the inner products of their prepared Gram matrices, in float64."""
    one, other = (
        torch.stack([(k := prepared(gram)).flatten() / k.norm() for gram in layers])
        for layers in (first, second)
    )
    return one @ other.T


def centred(gram: Tensor) -> Tensor:
    """HKH, whose products are HSIC₀ up to a factor."""
    return gram - gram.mean(dim=0) - gram.mean(dim=1, keepdim=True) + gram.mean()


def u_centred(gram: Tensor) -> Tensor:
    """Székely & Rizzo 2014, whose products are HSIC₁ up to a factor."""
    n = len(gram)
    gram = gram - gram.diag().diag()
    sums = gram.sum(dim=0)
    gram = gram - (sums[:, None] + sums) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    return gram - gram.diag().diag()


def largest_errors(given: Problem) -> dict[str, float]:
    first, second = grams(given, 0), grams(given, 1)
    biased, unbiased = (reference(first, second, way) for way in (centred, u_centred))
    truths = {
        "rfray": biased,
        "ckatorch": biased[::EVERY, ::EVERY],
        "torch_cka": unbiased,
        "pytorch-cka": unbiased.clamp(0, 1),
    }
    return {name: float((given.found[name] - truth).abs().max()) for name, truth in truths.items()}


def table(
    given: Problem, seconds: dict[str, list[float]], scales: dict[str, float]
) -> list[list[str]]:
    errors = largest_errors(given)
    rows = []
    for name, taken in seconds.items():
        scaled = [scales.get(name, 1.0) * second for second in taken]
        rows.append(
            [
                name,
                f"{statistics.median(scaled):.2f}",
                f"{ratio(scaled, seconds['rfray']):.1f}",
                f"{ratio(scaled, seconds['bare forward passes']):.1f}",
                str(len(taken)),
                "all" if name not in scales else f"1 in {scales[name]:.0f}",
                f"{errors[name]:.0e}" if name in errors else "",
            ]
        )
    return rows


def beside_bare(seconds: dict[str, list[float]]) -> str:
    own, passes = seconds["rfray"], seconds["bare forward passes"]
    return (
        f"In the fresh process, alone: rfray {statistics.median(own):.2f} s, bare forward passes "
        f"{statistics.median(passes):.2f} s, {ratio(own, passes):.1f} times."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--kernel-size", type=int, default=5)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5, help="of the fast ones; the slow once")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ.setdefault("MPLBACKEND", "agg")
    warnings.filterwarnings("ignore")
    given = problem(options.width, options.kernel_size, options.images, options.seeds)
    sampled = len(given.layers[::EVERY])
    own = {
        "bare forward passes": Contestant(bare(given), options.repeats, uncounted=1),
        "rfray": Contestant(rfrays(given), options.repeats, uncounted=1),
    }
    fresh = alternating(own)
    seconds = alternating(
        {
            **own,
            "pytorch-cka": Contestant(pytorch_ckas(given, len(given.pairs)), 2),
            "ckatorch": Contestant(ckatorchs(given), 1),
            "torch_cka": Contestant(torch_ckas(given, 1), 1),
        }
    )
    scales = {
        "ckatorch": len(given.pairs) * (len(given.layers) / sampled) ** 2,
        "torch_cka": float(len(given.pairs)),
    }
    print_and_write(
        RESULTS,
        f"# Kernel alignment of {options.seeds} networks, all {len(given.pairs)} pairs",
        f"`python benchmarks/cka.py --repeats {options.repeats}`: resnet50, width "
        f"{options.width:g}, k = {options.kernel_size}, {len(given.layers)} layers, "
        f"{options.images} images; "
        f"{versions('torch-cka', 'ckatorch', 'pytorch-cka')}, {options.threads} threads.",
        [
            "",
            "seconds",
            "times rfray's",
            "times bare passes",
            "repeats",
            "share of the pairs of layers measured",
            "largest error",
        ],
        table(given, seconds, scales),
        beneath=beside_bare(fresh),
    )


if __name__ == "__main__":
    main()
