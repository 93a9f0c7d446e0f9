"""One step of gradient descent, and the same step as a CUDA graph.

Reading a number from a GPU waits until the GPU has computed it, so a step reads none. Its input and
output are on the device.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rfray.data.augment import POLICIES, Augmentation, Crops, apply
from rfray.data.dataset import Dataset, DatasetFacts
from rfray.data.device import gathered, normalised
from rfray.device.hardware import on_device
from rfray.training.protocol import TrainingProtocol
from rfray.training.team import ALONE, Team

StepResult = tuple[Tensor, Tensor]
"""For one batch, scalars on the device: the summed loss, and the number of correct images."""

Step = Callable[[Tensor, Crops], StepResult]
"""Takes the indices of a batch's images in the training split, int64 (n,), and their crops."""

WARM_STEPS = 3
"""Steps before recording: libraries choose their algorithms, the optimizer creates its state."""


def plain_step(
    forward: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    dataset: Dataset,
    protocol: TrainingProtocol,
    team: Team = ALONE,
) -> Step:
    """The step, operation by operation.

    Args:
        forward: The network's forward pass.
        optimizer: Over its parameters.
        dataset: On the device of the network; its training split is used.
        protocol: Augmentation, precision, label smoothing, clipping.
        team: The processes that do it; a member of several computes its part of the batch, and
            returns the results of that part.
    """
    split, facts = dataset.train, dataset.facts
    device = split.labels.device.type
    policy = augmentation_of(protocol, facts)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def images_of(own: Tensor, crops: Crops) -> Tensor:
        if not len(own):
            return split.images.new_empty((0, *split.images.shape[1:]), dtype=torch.float32)
        return normalised(apply(gathered(split.images, own), crops, policy), facts)

    def step(batch: Tensor, crops: Crops) -> StepResult:
        own, own_crops, weight = team.share(batch, crops)
        labels = split.labels[own]
        images = images_of(own, own_crops).contiguous(memory_format=memory_format_of(protocol))
        with _autocast(protocol, device):
            logits = forward(images)
            loss = _loss(logits, labels, protocol)
        optimizer.zero_grad(set_to_none=True)
        (loss if weight == 1 else loss * weight).backward()
        if protocol.gradient_clip is not None:
            nn.utils.clip_grad_norm_(parameters, protocol.gradient_clip)
        optimizer.step()
        return loss.detach() * len(labels), (logits.detach().argmax(1) == labels).sum()

    return step


class CudaGraphs:
    """Records work on a GPU as a graph and replays it.

    Source: https://pytorch.org/docs/stable/notes/cuda.html#whole-network-capture
    """

    def warm_up(self, work: Callable[[], StepResult]) -> StepResult:
        """Do some work before it is recorded, on a separate stream, as PyTorch requires."""
        aside = _stream_aside()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            done = work()
        torch.cuda.current_stream().wait_stream(aside)
        return done

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record some work as one graph, without doing it; returns the function that does it."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay


@cache
def _stream_aside() -> torch.cuda.Stream:
    """One stream per process: cuBLAS keeps a workspace for each stream."""
    return torch.cuda.Stream()


@dataclass(frozen=True)
class _Recorded:
    """A graph, and the tensors that it reads and writes."""

    batch: Tensor
    crops: Crops
    results: list[StepResult]
    replay: Callable[[], None]


class GraphedStep:
    """A step that is done a few times directly, then recorded, and from then on replayed.

    All of these are steps of the training, and the weights are those of the plain step. A graph has
    a fixed learning rate and batch size, so one is recorded for each epoch, and a smaller last
    batch is done directly.

    Args:
        step: The plain step.
        optimizer: The optimizer of the step.
        size: Images in a whole batch.
        graphs: Records the step.
    """

    def __init__(
        self, step: Step, optimizer: torch.optim.Optimizer, size: int, graphs: CudaGraphs
    ) -> None:
        self._step = step
        self._optimizer = optimizer
        self._size = size
        self._graphs = graphs
        self._done = 0
        self._recorded: _Recorded | None = None

    def __call__(self, batch: Tensor, crops: Crops) -> StepResult:
        """One step, as the plain one."""
        if len(batch) != self._size or self._done < WARM_STEPS:
            self._done += 1
            return self._graphs.warm_up(lambda: self._step(batch, crops))
        if self._recorded is None:
            self._recorded = self._record(batch, crops)
        else:
            self._recorded.batch.copy_(batch)
            self._recorded.crops.copy_(crops)
        self._recorded.replay()
        loss, correct = self._recorded.results[-1]
        return loss.clone(), correct.clone()

    def _record(self, batch: Tensor, crops: Crops) -> _Recorded:
        batch, crops, results = batch.clone(), crops.clone(), []
        # Earlier gradients are not in the graph's memory.
        self._optimizer.zero_grad(set_to_none=True)
        replay = self._graphs.record(lambda: results.append(self._step(batch, crops)))
        return _Recorded(batch, crops, results, replay)


def autocast_dtype(protocol: TrainingProtocol, device: str) -> torch.dtype:
    """The dtype of the forward and backward pass on a device, "cpu" or "cuda"."""
    precision = on_device(protocol.precision, "cuda" if device == "cuda" else "cpu")
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def augmentation_of(protocol: TrainingProtocol, facts: DatasetFacts) -> Augmentation:
    """The augmentation of a protocol for a data set."""
    chosen = protocol.augmentation
    return POLICIES[facts.augmentation if chosen == "dataset" else chosen]


def memory_format_of(protocol: TrainingProtocol) -> torch.memory_format:
    """The memory layout of images, maps and weights."""
    return torch.channels_last if protocol.channels_last else torch.contiguous_format


def _loss(logits: Tensor, labels: Tensor, protocol: TrainingProtocol) -> Tensor:
    """Mean over the images; 0 if a member of a team has no image of the last batch."""
    if not len(labels):
        return logits.sum()
    return F.cross_entropy(logits, labels, label_smoothing=protocol.label_smoothing)


def _autocast(protocol: TrainingProtocol, device: str) -> AbstractContextManager[object]:
    dtype = autocast_dtype(protocol, device)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype=dtype)
