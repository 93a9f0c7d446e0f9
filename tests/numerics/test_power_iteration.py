"""PyHessian's values come with what they are worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matrices import generator
from small_nets import batch, convolutional, explicit_hessian, residual

from rfray.numerics.power_iteration import power_values

pytestmark = pytest.mark.filterwarnings("ignore")


def found(build, count=3, tolerance=1e-7, micro_batch=12):
    net, (images, labels) = build().float(), batch()
    return power_values(
        net,
        images.float(),
        labels,
        count,
        tolerance=tolerance,
        micro_batch=micro_batch,
        generator=generator(),
    )


@pytest.mark.parametrize("micro_batch", [12, 5])
@pytest.mark.parametrize("build", [convolutional, residual])
def test_the_values_are_the_largest_in_magnitude_in_falling_order(build, micro_batch):
    truth = np.linalg.eigvalsh(explicit_hessian(build(), *batch()).numpy())
    largest = sorted(truth, key=abs)[::-1][:3]
    power = found(build, micro_batch=micro_batch)
    assert power.values.numpy() == pytest.approx(sorted(largest)[::-1], rel=1e-3)


@pytest.mark.parametrize("build", [convolutional, residual])
def test_no_eigenvalue_is_further_away_than_the_residual(build):
    truth = torch.linalg.eigvalsh(explicit_hessian(build(), *batch()))
    power = found(build, tolerance=1e-2)
    nearest = (power.values[:, None] - truth).abs().amin(dim=1)
    assert bool((nearest <= power.residuals + 1e-5 * truth.abs().max()).all())


def test_neither_gradients_nor_the_global_generator_are_left_changed():
    net, (images, labels) = convolutional().float(), batch()
    settings = {"tolerance": 1e-7, "micro_batch": 12}
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = power_values(net, images.float(), labels, 3, generator=generator(), **settings)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in net.parameters())
    torch.manual_seed(4)
    second = power_values(net, images.float(), labels, 3, generator=generator(), **settings)
    assert torch.equal(first.values, second.values)
