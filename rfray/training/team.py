"""Processes that train one network together, each with a part of every batch.

The parts are consecutive images of the batch. Random numbers are drawn for the whole batch, so the
augmentation of an image is the same as in one process. PyTorch's DistributedDataParallel averages
gradients while they are computed.

Source: Li et al., *PyTorch Distributed: Experiences on Accelerating Data Parallel Training*, VLDB
2020.
"""

import warnings
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rfray.data.augment import Crops
from rfray.models.module import NetworkModule


@dataclass(frozen=True)
class Team:
    """A member of a team; several members are in one process group of PyTorch.

    Attributes:
        rank: The number of this member, from 0.
    """

    rank: int = 0
    size: int = 1

    def share(self, batch: Tensor, crops: Crops) -> tuple[Tensor, Crops, float]:
        """This member's part of a batch, and the weight of its mean loss.

        With these weights, the mean over the members of their losses is the mean over the images of
        the batch.

        Args:
            batch: Indices of the images in the training split (n,).
            crops: Their crops.
        """
        if self.size == 1:
            return batch, crops, 1.0
        part = self.part(len(batch))
        own = batch[part]
        return own, crops[part], len(own) * self.size / len(batch)

    def part(self, images: int) -> slice:
        """Which images of a batch are this member's: the same number for all, or one more."""
        each, left = divmod(images, self.size)
        start = self.rank * each + min(self.rank, left)
        return slice(start, start + each + (self.rank < left))

    def joined(self, module: nn.Module) -> nn.Module:
        """The module for training in the team: its gradients are averaged over the members.

        Its batch norms must be those of `SYNCHRONISED`. All members begin with the weights of the
        first one.
        """
        if self.size == 1:
            return module
        unread = isinstance(module, NetworkModule) and bool(module.network.unread)
        with warnings.catch_warnings():
            # The newest PyTorch has another name for the first option, unknown to older versions.
            warnings.simplefilter("ignore", FutureWarning)
            # Batch norms compute the same statistics in all members: nothing to broadcast.
            return DistributedDataParallel(
                module, broadcast_buffers=False, find_unused_parameters=unread
            )

    def summed(self, found: Tensor) -> Tensor:
        """The sum of a tensor over the members, in place."""
        if self.size > 1:
            dist.all_reduce(found)
        return found


ALONE = Team()
