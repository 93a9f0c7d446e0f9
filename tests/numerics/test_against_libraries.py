"""Two implementations that were written apart and agree are the stronger evidence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from curvlinops import HessianLinearOperator
from matrices import generator, matrix_with
from scipy.sparse.linalg import LinearOperator, eigsh
from small_nets import batch, convolutional, explicit_hessian, residual

from rfray.numerics.hessian import hessian_operator
from rfray.numerics.lanczos import largest_eigenvalues
from rfray.numerics.operator import matrix_operator
from rfray.numerics.support import restricted, support

pytestmark = pytest.mark.filterwarnings("ignore")


def scipys(operator, count, tolerance):
    def product(vector):
        return operator.apply(torch.from_numpy(vector.reshape(-1, 1))).numpy()

    shape = (operator.dimension, operator.dimension)
    linear = LinearOperator(shape, matvec=product, dtype=np.float64)
    return eigsh(linear, count, which="LA", tol=tolerance)[0][::-1]


@pytest.mark.parametrize("count", [1, 10, 40])
def test_eigsh_finds_the_same_on_a_matrix(count):
    spectrum = np.concatenate([[100, 30, 10], np.random.default_rng(0).normal(size=297)])
    operator = matrix_operator(matrix_with(spectrum))
    found = largest_eigenvalues(operator, count, generator=generator(), tolerance=1e-9)
    assert found.values.numpy() == pytest.approx(scipys(operator, count, 1e-9), rel=1e-9)


@pytest.mark.parametrize("build", [convolutional, residual])
def test_eigsh_finds_the_same_on_a_network(build):
    operator = hessian_operator(build(), *batch())
    found = largest_eigenvalues(operator, 12, generator=generator(), tolerance=1e-9)
    assert found.values.numpy() == pytest.approx(scipys(operator, 12, 1e-9), rel=1e-8)


@pytest.mark.parametrize("build", [convolutional, residual])
def test_curvlinops_multiplies_alike_in_micro_batches_or_not(build):
    net, (images, labels) = build(), batch(12)
    theirs = HessianLinearOperator(
        net,
        torch.nn.CrossEntropyLoss(),
        [p for p in net.parameters() if p.requires_grad],
        [(images[:7], labels[:7]), (images[7:], labels[7:])],
    )
    for micro_batch in (None, 5):
        operator = hessian_operator(net, images, labels, micro_batch=micro_batch)
        block = torch.randn(operator.dimension, 3, generator=generator(), dtype=torch.float64)
        torch.testing.assert_close(operator.apply(block), theirs @ block)


@pytest.mark.parametrize("build", [convolutional, residual])
def test_eigsh_over_curvlinops_finds_the_same(build):
    net, (images, labels) = build(), batch()
    theirs = HessianLinearOperator(
        net, torch.nn.CrossEntropyLoss(), list(net.parameters()), [(images, labels)]
    )
    truth = eigsh(theirs.to_scipy(), 12, which="LA", tol=1e-9)[0][::-1]
    operator = hessian_operator(net, images, labels)
    found = largest_eigenvalues(operator, 12, generator=generator(), tolerance=1e-9)
    assert found.values.numpy() == pytest.approx(truth, rel=1e-8)


@pytest.mark.parametrize("build", [convolutional, residual])
def test_the_support_and_float32_keep_the_spectrum_of_the_explicit_hessian(build):
    net, (images, labels) = build(), batch()
    truth = np.linalg.eigvalsh(explicit_hessian(net, images, labels).numpy())[::-1]
    operator = hessian_operator(net.float(), images.float(), labels)
    kept = support(operator, 12, generator())
    found = largest_eigenvalues(restricted(operator, kept), 12, generator=generator())
    assert found.values.numpy() == pytest.approx(truth[:12].copy(), rel=1e-4, abs=1e-6 * truth[0])


@pytest.mark.parametrize("build", [convolutional, residual])
def test_pyhessian_finds_the_same_leading_eigenvalues(build):
    """Power iteration finds the largest in size, so the comparison ends at the first negative."""
    from pyhessian import hessian

    net, (images, labels) = build().float(), batch()
    images = images.float()
    torch.manual_seed(0)
    theirs, _ = hessian(
        net, torch.nn.CrossEntropyLoss(), data=(images, labels), cuda=False
    ).eigenvalues(maxIter=1000, tol=1e-7, top_n=3)
    net.zero_grad(set_to_none=True)
    found = largest_eigenvalues(
        hessian_operator(net, images, labels), 3, generator=generator()
    ).values.numpy()
    positive = list(np.array(theirs) > 0)
    leading = positive.index(False) if False in positive else 3
    assert leading >= 1
    assert found[:leading] == pytest.approx(theirs[:leading], rel=1e-3)
