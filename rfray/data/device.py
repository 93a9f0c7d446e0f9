"""Data sets on the device that uses them, loaded once in each process."""

from functools import cache, lru_cache

import torch
from torch import Tensor

from rfray.data.amount import Amount
from rfray.data.cache import prepared
from rfray.data.dataset import Dataset, DatasetFacts, Split, UnreadableDatasetError
from rfray.data.registry import dataset_source
from rfray.data.validation import held_out, with_validation
from rfray.errors import UserError


@cache
def resident(name: str, device: str, validation: Amount | None = None) -> Dataset:
    """The data set `name` on `device`, kept for the next stage that runs in this process.

    On CPUs all processes share one mapped file. On a GPU each process has its own copy, so a
    worker removes it at the end of the stage: `forget_residents`.

    Args:
        name: As in the registry.
        device: "cpu" or "cuda".
        validation: How many training images are held out, a stage's `cell.validation`; on a CPU
            both parts are then copies of this process, no longer the mapped file.

    Raises:
        UnreadableDatasetError: Its files are missing or damaged, or do not agree with its facts.
        UserError: So many images cannot be held out.
    """
    try:
        loaded = prepared(dataset_source(name))
    except UserError as error:
        raise UnreadableDatasetError(name, error) from error
    parted = loaded if validation is None else _parted(loaded, validation)
    return Dataset(
        parted.facts,
        _moved(parted.train, device),
        _moved(parted.test, device),
        None if parted.validation is None else _moved(parted.validation, device),
    )


def forget_residents() -> None:
    """Remove every data set that this process keeps."""
    resident.cache_clear()


def _moved(split: Split, device: str) -> Split:
    return Split(split.images.to(device), split.labels.to(device))


def _parted(dataset: Dataset, validation: Amount) -> Dataset:
    """A data set on the CPU with some of its training images held out.

    They are chosen on the CPU, so that a GPU never has an image twice.
    """
    facts = with_validation(dataset.facts, validation)
    train = dataset.train
    out = held_out(train.labels, facts.validation_images)
    kept, validated = (chosen.nonzero().squeeze(1) for chosen in (~out, out))
    return Dataset(facts, selected(train, kept), dataset.test, selected(train, validated))


def selected(split: Split, chosen: Tensor) -> Split:
    """The images of these indices, int64 (n,) on the device of the split, with their labels."""
    return Split(gathered(split.images, chosen), split.labels[chosen])


def gathered(images: Tensor, chosen: Tensor) -> Tensor:
    """Copies of the images of these indices, channels last.

    Fast if `images` are in this layout in memory, as those of `prepared` are.

    Args:
        images: (images, 3, height, width).
        chosen: int64 (n,), on the same device.
    """
    return images.permute(0, 2, 3, 1).index_select(0, chosen).permute(0, 3, 1, 2)


def normalised(images: Tensor, facts: DatasetFacts) -> Tensor:
    """Float32 images with the training split's mean and deviation removed, channels last.

    Args:
        images: uint8, or floating from 0 to 255 (images, 3, height, width); not changed.
        facts: The mean and deviation to remove.
    """
    # (x / 255 - mean) / deviation in two passes over whole rows of pixels. Passes over the three
    # channels of each pixel would take twice as long.
    width = images.shape[-1]
    factor, shift = _row_scale(facts.mean, facts.deviation, width, images.device)
    pixels = images.permute(0, 2, 3, 1).to(
        torch.float32, memory_format=torch.contiguous_format, copy=True
    )
    rows = pixels.view(-1, 3 * width)
    rows.mul_(factor).sub_(shift)
    return pixels.permute(0, 3, 1, 2)


@lru_cache(maxsize=16)
def _row_scale(
    mean: tuple[float, ...], deviation: tuple[float, ...], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The factor of a row of pixels, and what is then subtracted, (3 width,) each.

    They are kept, because copying numbers from Python to a GPU waits for the GPU.
    """
    # A tensor made in inference mode cannot be used with gradients.
    with torch.inference_mode(mode=False):
        scale = torch.tensor(deviation * width, device=device)
        return 1 / (255 * scale), torch.tensor(mean * width, device=device) / scale
