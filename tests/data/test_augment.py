"""Augmentation against torchvision's transforms, and what is random about it."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms as oracle
import torchvision.transforms.functional as reference

from rfray.data.augment import POLICIES, Augmentation, apply, draw, whole

SIZE = 32
CROP, RESIZED = POLICIES["crop_flip"], POLICIES["resized_crop_flip"]


def images(count, size=SIZE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)


def augment(batch, policy, generator):
    crops = draw(policy, len(batch), batch.shape[-1], generator)
    return apply(batch, crops.to(batch.device), policy)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("padding", [0, 4, 7])
def test_padded_crops_are_torchvisions(padding, dtype):
    policy = Augmentation(crop="padded", flip=True, padding=padding)
    batch = images(40).to(dtype)
    crops = draw(policy, len(batch), SIZE, seeded(1))
    result = apply(batch, crops, policy)
    assert result.dtype == dtype
    for image, got, (top, left, height, width, flip) in zip(
        batch, result, crops.tolist(), strict=True
    ):
        expected = reference.crop(reference.pad(image, [padding]), top, left, height, width)
        assert torch.equal(got, reference.hflip(expected) if flip else expected)


@pytest.mark.parametrize("size", [28, 64])
def test_resized_crops_are_torchvisions(size):
    batch = images(60, size).float()
    crops = draw(RESIZED, len(batch), size, seeded(2))
    result = apply(batch, crops, RESIZED)
    for image, got, (top, left, height, width, flip) in zip(
        batch, result, crops.tolist(), strict=True
    ):
        expected = reference.resized_crop(
            image, top, left, height, width, [size, size], antialias=True
        )
        expected = reference.hflip(expected) if flip else expected
        assert torch.allclose(got, expected, atol=0.02)


def test_scaled_bytes_are_not_rounded_and_the_whole_image_is_itself():
    batch = images(3)
    result = apply(batch, whole(3, SIZE), RESIZED)
    assert result.dtype == torch.float32
    assert torch.allclose(result, batch.float(), atol=0.01)
    assert torch.equal(result.round().to(torch.uint8), batch)


def test_the_border_is_black_before_normalisation():
    policy = Augmentation(crop="padded", padding=4)
    white = torch.full((1, 3, SIZE, SIZE), 255, dtype=torch.uint8)
    result = apply(white, whole(1, SIZE), policy)
    assert (result[..., :4, :] == 0).all()
    assert (result[..., :4] == 0).all()
    assert (result[..., 4:, 4:] == 255).all()


def test_half_are_mirrored_and_every_offset_occurs_alike():
    crops = draw(CROP, 40_000, SIZE, seeded(3))
    top, left, _, _, flip = crops.unbind(1)
    assert flip.float().mean().item() == pytest.approx(0.5, abs=0.01)
    offsets = torch.bincount(top * 9 + left, minlength=81)
    assert len(offsets) == 81
    expected = 40_000 / 81
    assert ((offsets - expected).square() / expected).sum() < 130  # chi², 80 degrees: p = 0.0003
    assert abs(torch.corrcoef(torch.stack([top, flip]).float())[0, 1]) < 0.02


def test_rectangles_are_distributed_as_torchvisions():
    crops = draw(RESIZED, 20_000, 64, seeded(4))
    torch.manual_seed(5)
    blank = torch.zeros(3, 64, 64)
    theirs = torch.tensor(
        [
            oracle.RandomResizedCrop.get_params(blank, (0.08, 1.0), (3 / 4, 4 / 3))
            for _ in range(4_000)
        ]
    ).double()
    ours = crops[:, :4].double()
    for column in range(4):
        marks = torch.arange(0, 65, dtype=torch.float64)
        distributions = [
            torch.searchsorted(values[:, column].sort().values, marks, right=True) / len(values)
            for values in (ours, theirs)
        ]
        distance = (distributions[0] - distributions[1]).abs().max()
        assert distance < 0.034  # Kolmogorov–Smirnov, 20,000 against 4,000: p = 0.001
    assert (ours[:, 0] + ours[:, 2] <= 64).all()
    assert (ours[:, 1] + ours[:, 3] <= 64).all()
    assert ours.min() >= 0
    assert ours[:, 2:].min() >= 1


def test_a_rectangle_that_never_fits_is_the_whole_image():
    policy = Augmentation(crop="resized", scale=(1.0, 1.0), ratio=(2.0, 3.0))
    crops = draw(policy, 50, SIZE, seeded(6))
    assert torch.equal(crops, whole(50, SIZE))


@pytest.mark.parametrize("policy", [CROP, RESIZED, Augmentation(flip=True)])
def test_equal_generators_augment_equally(policy):
    batch = images(17)
    first = augment(batch, policy, seeded(7))
    assert torch.equal(first, augment(batch, policy, seeded(7)))
    assert not torch.equal(first, augment(batch, policy, seeded(8)))
    assert torch.equal(batch, images(17))


@pytest.mark.parametrize("policy", [CROP, RESIZED])
def test_an_epoch_is_drawn_at_once_and_its_last_batch_is_smaller(policy):
    batch = images(10)
    crops = draw(policy, 10, SIZE, seeded(9))
    parts = crops.split(4)
    assert [len(part) for part in parts] == [4, 4, 2]
    pieces = [apply(piece, part, policy) for piece, part in zip(batch.split(4), parts, strict=True)]
    assert torch.equal(torch.cat(pieces), apply(batch, crops, policy))


def test_the_policy_none_changes_and_draws_nothing():
    batch, generator = images(3), seeded(10)
    state = generator.get_state()
    assert augment(batch, POLICIES["none"], generator) is batch
    assert torch.equal(generator.get_state(), state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("policy", [CROP, RESIZED])
def test_a_gpu_cuts_the_same(policy):
    batch = images(33)
    there = augment(batch.cuda(), policy, seeded(11)).cpu()
    here = augment(batch, policy, seeded(11))
    assert torch.allclose(there.float(), here.float(), atol=0.02)
