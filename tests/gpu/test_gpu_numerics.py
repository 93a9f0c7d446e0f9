"""Hessian products and Lanczos on a card, against explicit float64 arithmetic on a processor."""

from __future__ import annotations

import pytest
import torch

from rfray.cell import Cell
from rfray.data.device import normalised, resident
from rfray.models.folded import FoldedModule
from rfray.numerics.hessian import hessian_operator
from rfray.numerics.lanczos import largest_eigenvalues
from rfray.numerics.operator import check_operator, gaussian_block, matrix_operator
from rfray.numerics.products import add_product
from rfray.numerics.support import restricted, support
from rfray.training.weights import initial_module

CELLS = [
    Cell(dataset="digits", arch=arch, kernel_size=3, seed=0, width=0.125)
    for arch in ("vgg19_rf", "resnet50")
]
NAMES = [cell.arch for cell in CELLS]


def hessian(cell, device, dtype, images=16):
    module = initial_module(cell, "cpu").eval().to(device, dtype)
    data = resident("digits", "cpu")
    pixels = normalised(data.train.images[:images], data.facts).to(device, dtype)
    return hessian_operator(FoldedModule(module), pixels, data.train.labels[:images].to(device))


@pytest.mark.parametrize("cell", CELLS, ids=NAMES)
def test_a_product_is_that_of_float64_to_rounding(cell):
    exact, card = hessian(cell, "cpu", torch.float64), hessian(cell, "cuda", torch.float32)
    check_operator(card, torch.Generator().manual_seed(0))
    vector = gaussian_block(card, 1, torch.Generator().manual_seed(1))
    expected = exact.apply(vector.cpu().double())
    assert float((card.apply(vector).cpu().double() - expected).norm() / expected.norm()) < 5e-6


@pytest.mark.parametrize("cell", CELLS, ids=NAMES)
def test_eigenvalues_are_the_processors_whatever_the_number_of_coordinates(cell):
    def found(device):
        generator = torch.Generator().manual_seed(0)
        operator = hessian(cell, device, torch.float32)
        kept = restricted(operator, support(operator, 3, generator))
        return largest_eigenvalues(kept, 3, tolerance=1e-4, generator=generator).values

    assert found("cuda").tolist() == pytest.approx(found("cpu").tolist(), rel=1e-4)


@pytest.mark.parametrize("size", [64, 65, 66, 67, 101])
def test_matrices_of_any_size_have_their_eigenvalues(size):
    noise = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    matrix = noise @ noise.T
    expected = torch.linalg.eigvalsh(matrix).flip(0)[:4].tolist()
    operator = matrix_operator(matrix.float().cuda())
    generator = torch.Generator().manual_seed(0)
    found = largest_eigenvalues(operator, 4, tolerance=1e-4, generator=generator)
    assert found.values.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("columns", [1, 3, 4, 5, 90_001])
@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("inner", [1, 2, 7])
def test_products_are_added_whatever_their_sizes(rows, inner, columns):
    generator = torch.Generator().manual_seed(0)
    total, left, right = (
        torch.randn(*size, generator=generator)
        for size in ((rows, columns), (rows, inner), (inner + 1, columns))
    )
    expected = total.double() - left.double() @ right[1:].double()
    there = total.cuda()
    add_product(there, left.cuda(), right.cuda()[1:], alpha=-1)
    torch.testing.assert_close(there.cpu().double(), expected, rtol=1e-5, atol=1e-5)
