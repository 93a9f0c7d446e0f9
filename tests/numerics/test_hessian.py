from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from matrices import generator
from small_nets import batch, convolutional, explicit_hessian, linear, residual
from torch import nn

from rfray.numerics.errors import NumericsError
from rfray.numerics.hessian import hessian_operator
from rfray.numerics.operator import check_operator, gaussian_block

NETS = [convolutional, residual, linear]


@pytest.mark.parametrize("build", NETS)
def test_it_is_the_explicit_hessian(build):
    net, (images, labels) = build(), batch()
    operator = hessian_operator(net, images, labels)
    everything = torch.eye(operator.dimension, dtype=torch.float64)
    torch.testing.assert_close(operator.apply(everything), explicit_hessian(net, images, labels))


@pytest.mark.parametrize("build", NETS)
@pytest.mark.parametrize("micro_batch", [1, 5, 6, 12, 100])
def test_micro_batches_change_nothing(build, micro_batch):
    """12 images in parts of which the last may be smaller, and counts for less."""
    net, (images, labels) = build(), batch()
    operator = hessian_operator(net, images, labels, micro_batch=micro_batch)
    block = gaussian_block(operator, 3, generator())
    torch.testing.assert_close(operator.apply(block), explicit_hessian(net, images, labels) @ block)


@pytest.mark.parametrize("build", NETS)
@pytest.mark.parametrize("micro_batch", [None, 5])
def test_it_passes_the_check_in_float32(build, micro_batch):
    images, labels = batch()
    operator = hessian_operator(build().float(), images.float(), labels, micro_batch=micro_batch)
    assert operator.dtype == torch.float32
    check_operator(operator, generator())


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_a_block_is_its_columns(micro_batch):
    operator = hessian_operator(residual(), *batch(), micro_batch=micro_batch)
    block = gaussian_block(operator, 3, generator())
    columns = torch.cat([operator.apply(column) for column in block.split(1, dim=1)], dim=1)
    torch.testing.assert_close(operator.apply(block), columns)


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_the_module_is_left_as_it_was(micro_batch):
    net = convolutional()
    before = copy.deepcopy(net.state_dict())
    operator = hessian_operator(net, *batch(), micro_batch=micro_batch)
    operator.apply(gaussian_block(operator, 2, generator()))
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(module.training for module in net.modules())


def test_a_product_carries_no_graph():
    operator = hessian_operator(convolutional(), *batch())
    assert not operator.apply(gaussian_block(operator, 1, generator())).requires_grad


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_it_works_where_gradients_are_switched_off(micro_batch):
    net, (images, labels) = convolutional(), batch()
    with torch.no_grad():
        operator = hessian_operator(net, images, labels, micro_batch=micro_batch)
        block = gaussian_block(operator, 1, generator())
        found = operator.apply(block)
    torch.testing.assert_close(found, explicit_hessian(net, images, labels) @ block)


def test_frozen_parameters_are_left_out():
    net, (images, labels) = residual(), batch()
    net[0].weight.requires_grad_(False)
    operator = hessian_operator(net, images, labels)
    assert operator.dimension == sum(p.numel() for p in net.parameters() if p.requires_grad)
    everything = torch.eye(operator.dimension, dtype=torch.float64)
    torch.testing.assert_close(operator.apply(everything), explicit_hessian(net, images, labels))


def test_another_loss_can_be_given():
    """Half the squared error of a linear map has the Hessian of the inputs' second moments."""
    net, (images, labels) = linear(), batch()

    def half_squared_error(outputs, targets):
        return (outputs - F.one_hot(targets, 3)).square().sum(dim=1).mean() / 2

    operator = hessian_operator(net, images, labels, loss=half_squared_error)
    inputs = images.flatten(1)
    weights = 3 * inputs.shape[1]
    found = operator.apply(torch.eye(operator.dimension, dtype=torch.float64))[:weights, :weights]
    torch.testing.assert_close(
        found, torch.kron(torch.eye(3, dtype=torch.float64), inputs.T @ inputs / len(inputs))
    )


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_a_loss_linear_in_the_parameters_has_hessian_zero(micro_batch):
    operator = hessian_operator(
        linear(), *batch(), loss=lambda outputs, _: outputs.sum(), micro_batch=micro_batch
    )
    assert operator.apply(gaussian_block(operator, 2, generator())).count_nonzero() == 0


def test_parameters_that_the_loss_does_not_reach_have_rows_of_zeros():
    net, (images, labels) = linear(), batch()
    net.unused = nn.Identity().eval()
    net.unused.weight = nn.Parameter(torch.ones(4, dtype=torch.float64))
    operator = hessian_operator(net, images, labels)
    product = operator.apply(gaussian_block(operator, 1, generator()))
    assert product[-4:].count_nonzero() == 0
    assert product[:-4].count_nonzero() > 0


def test_a_module_in_training_mode_is_refused_and_named():
    net = residual()
    net[1].norm.train()
    with pytest.raises(NumericsError, match=r"1\.norm is in training mode"):
        hessian_operator(net, *batch())


def test_impossible_batches_are_refused():
    net, (images, labels) = linear(), batch()
    with pytest.raises(NumericsError, match="12 images with 11 labels"):
        hessian_operator(net, images, labels[:-1])
    with pytest.raises(NumericsError, match="not a batch"):
        hessian_operator(net, images[:0], labels[:0])
    with pytest.raises(NumericsError, match="at least one image"):
        hessian_operator(net, images, labels, micro_batch=0)


def test_a_module_without_trainable_parameters_is_refused():
    with pytest.raises(NumericsError, match="requires a gradient"):
        hessian_operator(linear().requires_grad_(False), *batch())


def test_a_parameter_changed_under_a_kept_graph_is_not_silently_wrong():
    net = convolutional()
    operator = hessian_operator(net, *batch())
    with torch.no_grad():
        net[4].weight += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        operator.apply(gaussian_block(operator, 1, generator()))
