"""Augmentation of whole batches, on the device that they are on.

Random numbers are drawn on the CPU (`draw`), for a batch or a whole epoch; using them (`apply`) is
a pure function. So equal generators give equal crops on every device.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rfray.data.dataset import AugmentationName

_ATTEMPTS = 10
"""Rectangles that torchvision's RandomResizedCrop tries before it takes the whole image."""


@dataclass(frozen=True)
class Augmentation:
    """How training images are changed.

    Attributes:
        crop: `padded` adds a border of zeros and cuts out the image's own size, as torchvision's
            RandomCrop(padding=…); `resized` cuts out a random rectangle and scales it to the
            image's size, as RandomResizedCrop; `none` cuts nothing.
        flip: Whether each image is mirrored left to right with probability 1/2.
        padding: Width of the border in pixels, for `padded`.
        scale: Smallest and largest share of the image's area, for `resized`.
        ratio: Smallest and largest width divided by height, for `resized`.
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


Crops = Tensor
"""The crop and flip of each image, int64 (images, 5), in pixels.

Columns: the crop's first row and first column (in the padded image for `padded`), its number of
rows and of columns, and 1 if it is mirrored.
"""


def whole(images: int, image_size: int) -> Crops:
    """Crops that leave each of `images` images as it is."""
    return torch.tensor([0, 0, image_size, image_size, 0]).repeat(images, 1)


def draw(policy: Augmentation, images: int, image_size: int, generator: torch.Generator) -> Crops:
    """Draw a crop and a flip for each of `images` square images, on the CPU.

    Args:
        policy: The augmentation.
        images: Number of images.
        image_size: Their height and width in pixels.
        generator: On the CPU; not used by a policy that changes nothing.
    """
    crops = whole(images, image_size)
    match policy.crop:
        case "resized":
            crops[:, :4] = _rectangles(policy, images, image_size, generator)
        case "padded":
            offsets = torch.randint(0, 2 * policy.padding + 1, (2, images), generator=generator)
            crops[:, :2] = offsets.T
        case "none":
            pass
    if policy.flip:
        crops[:, 4] = torch.rand(images, generator=generator) < 0.5
    return crops


def _rectangles(policy: Augmentation, images: int, size: int, generator: torch.Generator) -> Tensor:
    """Top, left, height, width (images, 4): the first of ten that fit, else the whole image."""
    uniform = torch.rand((4, images, _ATTEMPTS), generator=generator, dtype=torch.float64)
    area = size * size * (policy.scale[0] + uniform[0] * (policy.scale[1] - policy.scale[0]))
    low, high = math.log(policy.ratio[0]), math.log(policy.ratio[1])
    ratio = torch.exp(low + uniform[1] * (high - low))
    heights = torch.sqrt(area / ratio).round().long()
    widths = torch.sqrt(area * ratio).round().long()
    fits = (heights > 0) & (heights <= size) & (widths > 0) & (widths <= size)
    first = fits.int().argmax(1, keepdim=True)
    any_fits = fits.any(1)
    height = heights.gather(1, first).squeeze(1).where(any_fits, size)
    width = widths.gather(1, first).squeeze(1).where(any_fits, size)
    top = (uniform[2, :, 0] * (size - height + 1)).long().clamp(max=size - height)
    left = (uniform[3, :, 0] * (size - width + 1)).long().clamp(max=size - width)
    return torch.stack([top, left, height, width], dim=1)


def apply(images: Tensor, crops: Crops, policy: Augmentation) -> Tensor:
    """Cut and mirror each image as drawn.

    Args:
        images: uint8 or floating (images, 3, size, size), pixels before normalisation: the border
            of a padded crop is 0, black.
        crops: From `draw` with the same policy, on the same device.
        policy: As in `draw`.

    Returns:
        New images of the same shape and type; if uint8 images are scaled, float32, not rounded.
        `images` themselves if the policy changes nothing.
    """
    match policy.crop:
        case "padded":
            return _windows(images, crops, policy.padding)
        case "resized":
            return _scaled(images, crops)
        case "none":
            return _windows(images, crops, 0) if policy.flip else images


def _windows(images: Tensor, crops: Crops, padding: int) -> Tensor:
    """The window of each image's own size at its offset in the padded image, mirrored or not.

    All padded images are in memory twice, unchanged and mirrored, channels last. Every row of the
    result is a contiguous run of numbers there, so one selection of runs gives the whole batch.
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

    top, left, _, _, flip = crops.unbind(1)
    image = steps(count) + count * flip
    left = torch.where(flip.bool(), 2 * padding - left, left)
    corner = (image * width + top) * width + left
    starts = (corner.unsqueeze(1) + steps(size) * width) * channels
    runs = padded.flatten().unfold(0, size * channels, 1)  # a view: a run from each start
    cut = runs.index_select(0, starts.flatten()).view(count, size, size, channels)
    return cut.permute(0, 3, 1, 2)


def _scaled(images: Tensor, crops: Crops) -> Tensor:
    """Each rectangle scaled to the image's size, bilinear, pixels as areas (align_corners=False).

    Pixels outside the rectangle have no influence, as if it had been cut out before. It is never
    larger than the result, so no antialiasing is needed.
    """
    count, _, size, _ = images.shape
    pixels = images if images.is_floating_point() else images.float()
    top, left, height, width, flip = crops.unbind(1)
    rows = _sample_points(top, height, size, pixels.dtype)
    columns = _sample_points(left, width, size, pixels.dtype)
    columns = torch.where(flip.bool().unsqueeze(1), columns.flip(1), columns)
    grid = pixels.new_empty(count, size, size, 2)
    grid[..., 0] = columns.unsqueeze(1)
    grid[..., 1] = rows.unsqueeze(2)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _sample_points(start: Tensor, length: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Where each of `size` pixels of the result is read, (images, size); image edges: -1 and 1."""
    place = torch.arange(size, device=start.device, dtype=dtype) + 0.5
    inside = place * (length.to(dtype) / size).unsqueeze(1) - 0.5
    last = (length - 1).to(dtype).unsqueeze(1)
    pixel = start.to(dtype).unsqueeze(1) + torch.minimum(inside.clamp(min=0), last)
    return (2 * pixel + 1) / size - 1
