"""A training step: what waits for the device, replayed as a graph, compiled; the same weights."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from test_training import CELL, PROTOCOL, same_weights, trained
from torch.utils._python_dispatch import TorchDispatchMode

from rfray.data.dataset import Dataset, Split
from rfray.data.device import normalised, resident
from rfray.numerics.live_taps import without_dead_taps
from rfray.training import loop
from rfray.training.determinism import arithmetic_of
from rfray.training.evaluate import evaluate
from rfray.training.optimization import optimizer_for
from rfray.training.protocol import TrainingProtocol
from rfray.training.step import WARM_STEPS, GraphedStep, plain_step
from rfray.training.weights import initial_module

WAITING = {
    "aten._local_scalar_dense.default",  # a tensor is read as a number
    "aten.lift_fresh.default",  # a tensor is made of numbers, and copied to the device
    "aten.nonzero.default",
    "aten.is_nonzero.default",
    "aten.equal.default",
}


class Watched(TorchDispatchMode):
    """Counts what on a card would wait for it, whatever is computed on."""

    def __init__(self):
        super().__init__()
        self.waits = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = str(function)
        moved = name == "aten._to_copy.default" and args[0].device != result.device
        if name in WAITING or moved:
            self.waits[name] += 1
        return result


def waits_of(protocol):
    module, _, epochs = trained(protocol)
    with Watched() as watched:
        list(epochs)
        data = resident("digits", "cpu")
        evaluate(module, data.test, data.facts)
    return watched.waits


@pytest.mark.parametrize("augmentation", ["none", "crop_flip", "resized_crop_flip"])
def test_what_waits_for_the_device_in_an_epoch_does_not_grow_with_its_steps(augmentation):
    waits_of(PROTOCOL)  # the scale of pixels is made once a process

    def waits(images):
        changes = {"epochs": 1, "images_per_epoch": images, "augmentation": augmentation}
        return waits_of(PROTOCOL.model_copy(update=changes))

    assert waits(320) == waits(64)


def on_meta(split):
    return Split(split.images.to("meta"), split.labels.to("meta"))


@pytest.mark.parametrize("augmentation", ["none", "crop_flip", "resized_crop_flip"])
def test_a_step_asks_its_device_for_nothing(augmentation):
    """On PyTorch's meta device, of which no number can be read: whoever tries fails."""
    data = resident("digits", "cpu")
    there = Dataset(data.facts, on_meta(data.train), on_meta(data.test))
    protocol = PROTOCOL.model_copy(update={"augmentation": augmentation})
    module = initial_module(CELL, "cpu").to("meta")
    step = plain_step(without_dead_taps(module), optimizer_for(module, protocol), there, protocol)
    batch, crops = drawn(there, protocol)
    step(batch, crops)
    with Watched() as watched:
        step(batch, crops)
    assert not watched.waits
    with pytest.raises((RuntimeError, NotImplementedError), match="meta tensor"):
        loop._epoch(step, there, protocol, seed=0)  # which reads its sums, once, at its end


def drawn(data, protocol):
    policy = loop.augmentation_of(protocol, data.facts)
    crops = loop.draw(policy, 32, data.facts.image_size, torch.Generator().manual_seed(0))
    return torch.arange(32, device="meta"), crops.to("meta")


def test_pixels_are_scaled_by_the_same_bits_on_every_call_and_in_inference_mode():
    data = resident("digits", "cpu")
    images, facts = data.test.images[:5], data.facts
    width = images.shape[-1]
    deviation, mean = torch.tensor(facts.deviation * width), torch.tensor(facts.mean * width)
    rows = images.permute(0, 2, 3, 1).float().reshape(-1, 3 * width)
    expected = (rows * (1 / (255 * deviation)) - mean / deviation).view(5, width, width, 3)
    with torch.inference_mode():
        first = normalised(images, facts)
    second = normalised(images, facts)
    assert torch.equal(first, expected.permute(0, 3, 1, 2))
    assert torch.equal(second, first)
    assert not second.is_inference()


class PretendedGraphs:
    """Records by keeping the work, replays by doing it: on the memory that was recorded."""

    def __init__(self):
        self.did = []

    def warm_up(self, work):
        self.did.append("warm")
        return work()

    def record(self, work):
        self.did.append("record")

        def replay():
            self.did.append("replay")
            work()

        return replay


def test_a_graphed_step_trains_to_the_bits_of_the_plain_one(monkeypatch):
    protocol = PROTOCOL.model_copy(update={"epochs": 2, "images_per_epoch": 7 * 32 + 5})
    plain, _, epochs = trained(protocol)
    expected = [(epoch.train_loss, epoch.train_accuracy) for epoch in epochs]

    graphs = []

    def as_graph(step, module, optimizer, protocol):
        graphs.append(PretendedGraphs())
        return GraphedStep(step, optimizer, protocol.batch_size, graphs[-1])

    monkeypatch.setattr(loop, "_as_graph", as_graph)
    graphed, _, epochs = trained(protocol)
    assert [(epoch.train_loss, epoch.train_accuracy) for epoch in epochs] == expected
    assert same_weights(plain, graphed)
    # One for each epoch, since a graph keeps the learning rate; the last batch is smaller.
    once = [*["warm"] * WARM_STEPS, "record", *["replay"] * (7 - WARM_STEPS), "warm"]
    assert [one.did for one in graphs] == [once, once]


def test_on_a_processor_a_graph_is_not_asked_for():
    protocol = PROTOCOL.model_copy(update={"epochs": 1})
    plain, graphed = (
        trained(protocol.model_copy(update={"cuda_graph": graph})) for graph in (False, True)
    )
    for _, _, epochs in (plain, graphed):
        list(epochs)
    assert same_weights(plain[0], graphed[0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": "adamw", "learning_rate": 0.001}, "cuda_graph is for sgd only"),
        ({"compile": True}, "cannot be used together"),
    ],
)
def test_a_graph_of_what_cannot_be_one_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        TrainingProtocol(cuda_graph=True, **settings)


class Convolved(TorchDispatchMode):
    """Sizes of the kernels that are convolved with, in order."""

    def __init__(self):
        super().__init__()
        self.kernels = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if str(function) == "aten.convolution.default":
            self.kernels.append(tuple(args[1].shape[2:]))
        return function(*args, **(kwargs or {}))


def test_compiled_or_not_dead_taps_are_left_out_and_the_weights_are_the_same(monkeypatch):
    protocol = PROTOCOL.model_copy(update={"epochs": 1, "images_per_epoch": 32})
    plain, _, epochs = trained(protocol)
    with Convolved() as done:
        list(epochs)

    compiled_kernels = []
    real = torch.compile

    def backend(graph, _inputs):
        compiled_kernels.extend(
            tuple(node.args[1].meta["example_value"].shape[2:])
            for node in graph.graph.nodes
            if node.target is torch.conv2d
        )
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda module: real(module, backend=backend))
    compiled, _, epochs = trained(protocol.model_copy(update={"compile": True}))
    list(epochs)
    assert same_weights(plain, compiled)
    assert compiled_kernels == done.kernels
    assert {(1, 1), (3, 3)} == set(compiled_kernels)


def test_without_determinism_cudnn_may_choose_by_the_clock_and_only_while_training():
    with arithmetic_of(PROTOCOL):
        assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.benchmark
    with arithmetic_of(PROTOCOL.model_copy(update={"deterministic": True})):
        assert not torch.backends.cudnn.benchmark


def test_on_a_processor_parameters_are_updated_as_ever():
    """A fused update rounds otherwise: numbers under equal keys would change."""
    optimizer = optimizer_for(initial_module(CELL, "cpu"), PROTOCOL)
    assert not optimizer.defaults["fused"]
