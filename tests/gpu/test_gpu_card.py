"""A real card behind the interface that the engine decides by."""

from __future__ import annotations

import os
import time

import pytest
import torch

from rfray.data.device import normalised, resident
from rfray.device.card import room
from rfray.device.cuda import CudaCard
from rfray.device.exhaustion import exhausted
from rfray.engine.worker import leave

MIB = 2**20


def test_it_tells_its_name_and_its_memory():
    card = CudaCard(1.0)
    assert card.name == torch.cuda.get_device_name()
    memory = card.memory()
    assert memory.total == torch.cuda.get_device_properties(0).total_memory or (
        memory.total == pytest.approx(torch.cuda.get_device_properties(0).total_memory, rel=0.05)
    )
    assert 0 < memory.free <= memory.total
    assert memory.used <= memory.held


def test_the_peak_is_the_most_that_was_held_since_the_stage_began():
    block = torch.empty(256 * MIB, dtype=torch.uint8, device="cuda")
    del block
    torch.cuda.empty_cache()
    card = CudaCard(1.0)
    before = card.peak()
    block = torch.empty(64 * MIB, dtype=torch.uint8, device="cuda")
    del block
    assert 64 * MIB <= card.peak() - before < 128 * MIB


def test_a_share_has_its_part_of_the_card_and_what_it_holds_counts():
    card = CudaCard(0.25)
    before = room(card)
    total = card.memory().total
    assert 0 < before <= total / 4
    block = torch.empty(512 * MIB, dtype=torch.uint8, device="cuda")
    assert before - room(card) == pytest.approx(512 * MIB, rel=0.05)
    del block


def test_behind_a_stage_its_data_and_its_blocks_are_given_back():
    card = CudaCard(1.0)
    torch.ones((), device="cuda")
    leave(card)
    free = card.memory().free
    data = resident("digits", "cuda")
    pixels = normalised(data.train.images, data.facts).repeat(64, 1, 1, 1)
    assert card.memory().free < free - 100 * MIB
    del data, pixels
    leave(card)
    assert card.memory().held == pytest.approx(0, abs=4 * MIB)
    assert card.memory().free >= free - 4 * MIB


def test_memory_that_is_used_up_is_known_as_such_and_can_be_had_again():
    card = CudaCard(1.0)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(int(card.memory().total * 1.5), dtype=torch.uint8, device="cuda")
    assert exhausted(caught.value)
    with pytest.raises(RuntimeError) as other:
        torch.ones(2, device="cuda") @ torch.ones(3, device="cuda")
    assert not exhausted(other.value)
    assert float(torch.ones(4, device="cuda").sum()) == 4


def test_how_busy_it_is_comes_from_nvml():
    pytest.importorskip("pynvml")
    card = CudaCard(1.0)
    idle = card.utilisation()
    assert idle is not None
    matrix = torch.randn(8192, 8192, device="cuda")
    ends = time.monotonic() + 2
    while time.monotonic() < ends:
        matrix = torch.nn.functional.normalize(matrix @ matrix)
        torch.cuda.synchronize()
    assert card.utilisation() > 0.5


def test_the_card_is_the_one_that_the_process_may_see():
    assert os.environ.get("CUDA_VISIBLE_DEVICES") != ""
    assert torch.cuda.device_count() >= 1
