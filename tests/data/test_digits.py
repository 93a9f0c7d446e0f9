"""The bundled digits are what their facts say."""

from __future__ import annotations

import pytest
import torch

from rfray.data.cache import prepared
from rfray.data.device import normalised
from rfray.data.registry import dataset_source


@pytest.fixture
def digits(data_root):
    return prepared(dataset_source("digits"))


def test_they_are_normalised_by_their_own_pixels(digits):
    facts = digits.facts
    assert (facts.fingerprint, facts.augmentation) == ("digits-v1", "none")
    assert (len(digits.train), len(digits.test)) == (1433, 364)
    assert set(digits.test.labels.tolist()) == set(range(10))
    before = digits.train.images.clone()
    pixels = normalised(digits.train.images, facts)
    assert pixels.mean().abs() < 1e-3
    assert (pixels.std() - 1).abs() < 1e-3
    assert torch.equal(digits.train.images, before)


def test_floating_images_are_left_as_they_are(digits):
    images = digits.test.images[:5].float()
    result = normalised(images, digits.facts)
    assert torch.equal(images, digits.test.images[:5].float())
    assert torch.equal(result, normalised(digits.test.images[:5], digits.facts))
