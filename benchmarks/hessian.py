"""python benchmarks/hessian.py: the largest Hessian eigenvalues by rfray and by its peers.

vgg19_rf at width 1/4 and k = 5, trained for three epochs on digits, cross-entropy over 256 of its
images, the 90 largest eigenvalues to a residual of 1e-3. Every contestant builds its own operator,
on the same weights, images, threads and dtype; building it counts. `right` says how many values
agree rank by rank to 1e-3 with `eigsh` at 1e-6 over float64 products of plain PyTorch, which owe
nothing to rfray. Contestants alternate over the repeats; medians are printed.

PyHessian takes power iterations for one eigenvalue after the other. Its tolerance is of the change
between two iterations, which is not the error, so it is measured twice: its first few values by its
defaults, and all of them by a tolerance at which they may be right, stopped after `--patience`
seconds. What it has found by then is counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from side_by_side import Contestant, alternating, print_and_write, versions
from torch import Tensor, nn

from rfray.data.device import normalised, resident
from rfray.models.folded import FoldedModule
from rfray.models.module import NetworkModule, build
from rfray.models.registry import architecture
from rfray.numerics.hessian import hessian_operator
from rfray.numerics.lanczos import largest_eigenvalues
from rfray.numerics.operator import ProductCounter, check_operator, counted
from rfray.numerics.support import restricted, support
from rfray.training.loop import train_epochs
from rfray.training.optimization import optimizer_for
from rfray.training.protocol import TrainingProtocol

RESULTS = Path(__file__).parent / "results" / "hessian.md"
REFERENCE_TOLERANCE = 1e-6
STRICT = 1e-5
"""A change between two of PyHessian's iterations; its default is 1e-3, and 100 iterations."""
STRICTLY = f"PyHessian, tolerance {STRICT:g}"
PEERS = ("pyhessian", "scipy", "curvlinops-for-pytorch", "hessian-eigenthings")


@dataclass(frozen=True)
class Problem:
    """A trained network in eval mode, and the images and labels of its loss."""

    module: NetworkModule
    images: Tensor
    labels: Tensor
    count: int
    tolerance: float


@dataclass(frozen=True)
class Answer:
    """Values found, largest first, and the Hessian-vector products that they took."""

    values: NDArray[np.float64]
    products: int


Solver = Callable[[Problem], Answer]


def problem(width: float, images: int, count: int, tolerance: float) -> Problem:
    dataset = resident("digits", "cpu")
    module = build(architecture("vgg19_rf")(5, width, dataset.facts.classes), 0)
    protocol = TrainingProtocol(epochs=3, batch_size=64, learning_rate=0.05)
    for _ in train_epochs(module, optimizer_for(module, protocol), dataset, protocol, seed=0):
        pass
    pixels = normalised(dataset.train.images[:images], dataset.facts)
    return Problem(module.eval(), pixels, dataset.train.labels[:images], count, tolerance)


def rfrays(given: Problem) -> Answer:
    """What the hessian stage does, its check of the operator and its certificates included."""
    counter, generator = ProductCounter(), torch.Generator().manual_seed(0)
    operator = counted(
        hessian_operator(FoldedModule(given.module), given.images, given.labels), counter
    )
    check_operator(operator, generator)
    touched = restricted(operator, support(operator, given.count, generator))
    found = largest_eigenvalues(
        touched, given.count, tolerance=given.tolerance, generator=generator
    )
    if not (bool(found.converged.all()) and found.probed):
        raise RuntimeError("rfray did not converge")
    return Answer(found.values.numpy(), counter.products)


def plain_products(given: Problem) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Double backward through a graph that is kept, in PyTorch as everybody writes it."""
    parameters = list(given.module.parameters())
    loss = F.cross_entropy(given.module(given.images), given.labels)
    slopes = torch.autograd.grad(loss, parameters, create_graph=True)
    flat = torch.cat([slope.flatten() for slope in slopes])

    def product(vector: NDArray[np.float32]) -> NDArray[np.float32]:
        direction = torch.from_numpy(vector.reshape(-1)).to(flat)
        parts = torch.autograd.grad(
            flat, parameters, direction, retain_graph=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in parts]).numpy()

    return product


def arpack(
    product: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    dimension: int,
    dtype: type[np.floating],
    count: int,
    tolerance: float,
) -> Answer:
    counter = ProductCounter()

    def counting(vector: NDArray[np.float32]) -> NDArray[np.float32]:
        counter.products += 1
        return product(vector)

    operator = LinearOperator((dimension, dimension), matvec=counting, dtype=dtype)
    start = np.random.default_rng(0).normal(size=dimension).astype(dtype)
    values = eigsh(operator, count, which="LA", tol=tolerance, v0=start, return_eigenvectors=False)
    return Answer(np.sort(values)[::-1].astype(np.float64), counter.products)


def dimension_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def eigshs(given: Problem) -> Answer:
    return arpack(
        plain_products(given), dimension_of(given.module), np.float32, given.count, given.tolerance
    )


def curvlinopss(given: Problem) -> Answer:
    from curvlinops import HessianLinearOperator

    operator = HessianLinearOperator(
        given.module,
        nn.CrossEntropyLoss(),
        list(given.module.parameters()),
        [(given.images, given.labels)],
    ).to_scipy()
    return arpack(operator.matvec, operator.shape[0], np.float32, given.count, given.tolerance)


def eigenthingss(given: Problem) -> Answer:
    """400 steps, all else by its defaults, which switch reorthogonalisation off."""
    from hessian_eigenthings import HessianOperator, lanczos, supervised_loss

    operator = HessianOperator(
        given.module, [(given.images, given.labels)], supervised_loss(nn.CrossEntropyLoss())
    )
    steps = min(400, 4 * given.count + 40)
    found = lanczos(operator, k=given.count, max_iter=steps, which="LA", seed=0)
    return Answer(found.eigenvalues.double().sort(descending=True).values.numpy(), steps)


class PatienceError(Exception):
    """A contestant's time is over."""


def pyhessians(count: int, patience: float, **options: float) -> Solver:
    """PyHessian's first `count` eigenvalues, or those that it has after `patience` seconds."""

    def run(given: Problem) -> Answer:
        # The package's name for the module means the class.
        library = import_module("pyhessian.hessian")
        counter, product = ProductCounter(), library.hessian_vector_product
        until = time.monotonic() + patience

        def counting(*arguments: object) -> object:
            if time.monotonic() > until:
                raise PatienceError
            counter.products += 1
            return product(*arguments)

        library.hessian_vector_product = counting
        torch.manual_seed(0)
        try:
            values, _ = library.hessian(
                given.module, nn.CrossEntropyLoss(), data=(given.images, given.labels), cuda=False
            ).eigenvalues(top_n=count, **options)
        except PatienceError as lost:
            values = found_until(lost)
        finally:
            library.hessian_vector_product = product
            given.module.zero_grad(set_to_none=True)
        return Answer(np.sort(values)[::-1], counter.products)

    return run


def found_until(lost: PatienceError) -> list[float]:
    """The values that PyHessian held; it returns them only once it has all."""
    frames = (frame for frame, _ in traceback.walk_tb(lost.__traceback__))
    return list(
        next(f for f in frames if f.f_code.co_name == "eigenvalues").f_locals["eigenvalues"]
    )


def reference(given: Problem) -> NDArray[np.float64]:
    """Float64 eigenvalues far within the tolerance: their error goes with the residual squared."""
    module = build(given.module.network, 0).double().eval()
    module.load_state_dict(given.module.state_dict())
    exact = Problem(module, given.images.double(), given.labels, given.count, given.tolerance)
    return arpack(
        plain_products(exact), dimension_of(module), np.float64, given.count, REFERENCE_TOLERANCE
    ).values


def right(answer: Answer, truth: NDArray[np.float64], tolerance: float) -> int:
    """How many values agree with those of the same rank."""
    wanted = truth[: len(answer.values)]
    return int((np.abs(answer.values - wanted) <= tolerance * np.abs(wanted)).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=90)
    parser.add_argument(
        "--pyhessian", type=int, default=10, help="eigenvalues wanted of its defaults"
    )
    parser.add_argument(
        "--patience", type=float, default=2100, help="seconds after which PyHessian is stopped"
    )
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--repeats", type=int, default=3, help="of rfray and eigsh; others once")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    given = problem(options.width, options.images, options.count, tolerance=1e-3)
    truth = reference(given)
    solvers: dict[str, tuple[Solver, int]] = {
        "rfray": (rfrays, options.repeats),
        "eigsh over plain products": (eigshs, options.repeats),
        "curvlinops with eigsh": (curvlinopss, 1),
        "hessian-eigenthings, 400 steps": (eigenthingss, 1),
        f"PyHessian by its defaults, the first {options.pyhessian} only": (
            pyhessians(options.pyhessian, options.patience),
            1,
        ),
        STRICTLY: (pyhessians(options.count, options.patience, tol=STRICT, maxIter=100_000), 1),
    }
    answers: dict[str, Answer] = {}

    def solving(name: str, solver: Solver) -> Callable[[], None]:
        def solve() -> None:
            answers[name] = solver(given)
            print(f"{name}: {answers[name].products} products", flush=True)

        return solve

    def each(name: str) -> float:
        return statistics.median(times[name]) / len(answers[name].values)

    times = alternating(
        {
            name: Contestant(solving(name, solver), repeats)
            for name, (solver, repeats) in solvers.items()
        }
    )
    rows = [
        [
            name,
            f"{statistics.median(times[name]):.1f}",
            f"{each(name):.2f}",
            f"{each(name) / each('rfray'):.1f}",
            f"{answer.products:,}",
            f"{right(answer, truth, given.tolerance)} of {len(answer.values)}",
        ]
        for name, answer in answers.items()
    ]
    print_and_write(
        RESULTS,
        f"# Hessian: the {options.count} largest eigenvalues",
        f"`python benchmarks/hessian.py --repeats {options.repeats}`: vgg19_rf, width "
        f"{options.width:g}, k = 5, {dimension_of(given.module):,} parameters, {options.images} "
        f"images; {versions(*PEERS)}, {options.threads} threads.",
        ["", "seconds", "an eigenvalue", "times rfray's", "products", "right to 1e-3"],
        rows,
        f"PyHessian had {len(answers[STRICTLY].values)} of the {options.count} after "
        f"{statistics.median(times[STRICTLY]) / statistics.median(times['rfray']):.1f} times "
        f"the seconds that rfray took for all; it is stopped after {options.patience:g} s.",
    )


if __name__ == "__main__":
    main()
