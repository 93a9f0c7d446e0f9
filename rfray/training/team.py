"""Processes that train one network together, each with a part of every batch.

Of a batch's images, in their order, each member takes those that follow its neighbour's. What is
random was drawn for the whole batch, so an image is varied as it would be in one process. Gradients
are averaged by PyTorch's DistributedDataParallel as they are found.

Source: Li et al., *PyTorch Distributed: Experiences on Accelerating Data Parallel Training*, VLDB
2020.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rfray.data.augment import Crops
from rfray.models.module import NetworkModule


@dataclass(frozen=True)
class Team:
    """A member of a team, as it sees itself; more than one are joined by PyTorch's process group.

    Attributes:
        rank: Which member this process is, from 0 on.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    def share(self, batch: Tensor, crops: Crops) -> tuple[Tensor, Crops, float]:
        """This member's part of a batch, and what its mean loss counts.

        Weighted so, the mean over the members of what they minimise is the mean over the images of
        the batch, whatever parts it falls into.

        Args:
            batch: Places of the images in the training split (n,).
            crops: Theirs.
        """
        if self.size == 1:
            return batch, crops, 1.0
        part = self.part(len(batch))
        own = batch[part]
        return own, crops[part], len(own) * self.size / len(batch)

    def part(self, images: int) -> slice:
        """Which of so many images are this member's: as many as any other's, or one more."""
        each, left = divmod(images, self.size)
        start = self.rank * each + min(self.rank, left)
        return slice(start, start + each + (self.rank < left))

    def joined(self, module: nn.Module) -> nn.Module:
        """The module as the team trains it: its gradients are averaged over the members.

        Its batch norms have to be `SYNCHRONISED` ones. All members begin with the first one's
        weights.
        """
        if self.size == 1:
            return module
        unread = isinstance(module, NetworkModule) and bool(module.network.unread)
        with warnings.catch_warnings():
            # The newest PyTorch has another name for the first option, which older ones lack.
            warnings.simplefilter("ignore", FutureWarning)
            # Batch norms find the same statistics everywhere: there is nothing to broadcast.
            return DistributedDataParallel(
                module, broadcast_buffers=False, find_unused_parameters=unread
            )

    def summed(self, found: Tensor) -> Tensor:
        """The sum of what the members found, in the memory of what was given."""
        if self.size > 1:
            dist.all_reduce(found)
        return found


ALONE = Team()
