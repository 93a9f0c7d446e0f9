"""Augmentation of whole batches on whatever device they are on.

What is random is drawn on the CPU (`draw`), for a batch or a whole epoch; applying it (`apply`) is
a pure function. So equal generators give equal crops on every device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rfray.data.dataset import AugmentationName

_ATTEMPTS = 10
"""Rectangles that torchvision's RandomResizedCrop tries before it takes the whole image."""


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied.

    Attributes:
        crop: `padded` cuts the image's own size out of the image with a border of zeros, as
            torchvision's RandomCrop(padding=…); `resized` cuts a random rectangle and scales it
            to the image's size, as RandomResizedCrop; `none` cuts nothing.
        flip: Whether every second image, at random, is mirrored left to right.
        padding: Width of the border in pixels, for `padded`.
        scale: Smallest and largest share of the image's area, for `resized`.
        ratio: Smallest and largest width by height, for `resized`.
    """

    crop: Literal["none", "padded", "resized"] = "none"
    flip: bool = False
    padding: int = 4
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)


POLICIES: Mapping[AugmentationName, Augmentation] = {
    "none": Augmentation(),
    "crop_flip": Augmentation(crop="padded", flip=True),
    "resized_crop_flip": Augmentation(crop="resized", flip=True),
}


@dataclass(frozen=True)
class Crops:
    """What was drawn for each image: int64 (images,) each, in pixels.

    Attributes:
        top: First row of the crop, counted in the padded image for `padded`.
        left: First column.
        height: Rows of the crop.
        width: Columns.
        flip: Bool: whether it is mirrored.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor

    def __len__(self) -> int:
        return len(self.flip)

    @classmethod
    def whole(cls, images: int, image_size: int) -> Crops:
        """Crops that leave each of `images` images as it is."""
        zero = torch.zeros(images, dtype=torch.int64)
        size = torch.full((images,), image_size)
        return cls(zero, zero, size, size, zero.bool())

    def to(self, device: torch.device | str) -> Crops:
        """The same crops on `device`."""
        return Crops(*(part.to(device) for part in self._parts()))

    def clone(self) -> Crops:
        """The same crops in memory of their own."""
        return Crops(*(part.clone() for part in self._parts()))

    def copy_(self, others: Crops) -> None:
        """Become others, in the same memory."""
        for part, other in zip(self._parts(), others._parts(), strict=True):
            part.copy_(other)

    def split(self, size: int) -> list[Crops]:
        """The crops of each batch of `size` images; the last may be smaller."""
        parts = (part.split(size) for part in self._parts())
        return [Crops(*batch) for batch in zip(*parts, strict=True)]

    def within(self, part: slice) -> Crops:
        """The crops of some images that follow one another."""
        return Crops(*(one[part] for one in self._parts()))

    def _parts(self) -> tuple[Tensor, ...]:
        return self.top, self.left, self.height, self.width, self.flip


def draw(policy: Augmentation, images: int, image_size: int, generator: torch.Generator) -> Crops:
    """Draw a crop and a flip for each of `images` square images, on the CPU.

    Args:
        policy: What to draw.
        images: How many.
        image_size: Their height and width in pixels.
        generator: On the CPU; untouched by a policy that changes nothing.
    """
    crops = Crops.whole(images, image_size)
    match policy.crop:
        case "resized":
            top, left, height, width = _rectangles(policy, images, image_size, generator)
            crops = Crops(top, left, height, width, crops.flip)
        case "padded":
            offsets = torch.randint(0, 2 * policy.padding + 1, (2, images), generator=generator)
            crops = replace(crops, top=offsets[0], left=offsets[1])
        case "none":
            pass
    if policy.flip:
        crops = replace(crops, flip=torch.rand(images, generator=generator) < 0.5)
    return crops


def _rectangles(
    policy: Augmentation, images: int, size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height and width: the first of ten rectangles that fits, else the whole image."""
    uniform = torch.rand((4, images, _ATTEMPTS), generator=generator, dtype=torch.float64)
    area = size * size * (policy.scale[0] + uniform[0] * (policy.scale[1] - policy.scale[0]))
    low, high = math.log(policy.ratio[0]), math.log(policy.ratio[1])
    ratio = torch.exp(low + uniform[1] * (high - low))
    heights = torch.sqrt(area / ratio).round().long()
    widths = torch.sqrt(area * ratio).round().long()
    fits = (heights > 0) & (heights <= size) & (widths > 0) & (widths <= size)
    first = fits.int().argmax(1, keepdim=True)
    whole = torch.full((images,), size)
    any_fits = fits.any(1)
    height = torch.where(any_fits, heights.gather(1, first).squeeze(1), whole)
    width = torch.where(any_fits, widths.gather(1, first).squeeze(1), whole)
    top = (uniform[2, :, 0] * (size - height + 1)).long().clamp(max=size - height)
    left = (uniform[3, :, 0] * (size - width + 1)).long().clamp(max=size - width)
    return top, left, height, width


def apply(images: Tensor, crops: Crops, policy: Augmentation) -> Tensor:
    """Cut and mirror each image as drawn.

    Args:
        images: uint8 or floating (images, 3, size, size), pixels before normalisation: the border
            of a padded crop is 0, black.
        crops: From `draw` under the same policy, on the same device.
        policy: As in `draw`.

    Returns:
        New images of the same shape and type; float32, not rounded, for uint8 ones that were
        scaled. `images` themselves if the policy changes nothing.
    """
    match policy.crop:
        case "padded":
            return _windows(images, crops, policy.padding)
        case "resized":
            return _scaled(images, crops)
        case "none":
            return _windows(images, crops, 0) if policy.flip else images


def augment(images: Tensor, policy: Augmentation, generator: torch.Generator) -> Tensor:
    """Draw for one batch and apply it at once; see `draw` and `apply`."""
    crops = draw(policy, len(images), images.shape[-1], generator)
    return apply(images, crops.to(images.device), policy)


def _windows(images: Tensor, crops: Crops, padding: int) -> Tensor:
    """The window of each image's own size at its offset in the padded image, mirrored or not.

    All images lie padded in memory twice, as they are and mirrored, channels last. Every row of the
    result is a run of numbers there, so one selection of runs cuts and mirrors the batch.
    """
    count, channels, size, _ = images.shape
    width = size + 2 * padding
    inside = slice(padding, padding + size)
    pixels = images.permute(0, 2, 3, 1)
    padded = images.new_zeros(2, count, width, width, channels)
    padded[0, :, inside, inside] = pixels
    padded[1, :, inside, inside] = pixels.flip(2)

    def steps(length: int) -> Tensor:
        return torch.arange(length, device=images.device)

    image = steps(count) + count * crops.flip
    left = torch.where(crops.flip, 2 * padding - crops.left, crops.left)
    corner = (image * width + crops.top) * width + left
    starts = (corner.unsqueeze(1) + steps(size) * width) * channels
    runs = padded.flatten().unfold(0, size * channels, 1)  # a view: the run that starts at each
    cut = runs.index_select(0, starts.flatten()).view(count, size, size, channels)
    return cut.permute(0, 3, 1, 2)


def _scaled(images: Tensor, crops: Crops) -> Tensor:
    """Each rectangle at the image's size, bilinear, pixels as areas (align_corners=False).

    Nothing outside the rectangle is looked at, as if it had been cut out before; and since it is
    never larger than the result, there is nothing to smooth against aliasing.
    """
    count, _, size, _ = images.shape
    pixels = images if images.is_floating_point() else images.float()
    rows = _sample_points(crops.top, crops.height, size, pixels.dtype)
    columns = _sample_points(crops.left, crops.width, size, pixels.dtype)
    columns = torch.where(crops.flip.unsqueeze(1), columns.flip(1), columns)
    grid = pixels.new_empty(count, size, size, 2)
    grid[..., 0] = columns.unsqueeze(1)
    grid[..., 1] = rows.unsqueeze(2)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _sample_points(start: Tensor, length: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Where each of `size` result pixels reads, (images, size): -1 and 1 are the image's edges."""
    place = torch.arange(size, device=start.device, dtype=dtype) + 0.5
    inside = place * (length.to(dtype) / size).unsqueeze(1) - 0.5
    last = (length - 1).to(dtype).unsqueeze(1)
    pixel = start.to(dtype).unsqueeze(1) + torch.minimum(inside.clamp(min=0), last)
    return (2 * pixel + 1) / size - 1
