"""Where the Lanczos basis lies, and how large it may be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rfray.numerics.errors import NumericsError
from rfray.numerics.lanczos import BasisPlace, least_basis_size, place_basis, usual_basis_size

GB = 1e9


def test_a_small_network_gets_the_usual_basis_on_the_device():
    place = place_basis(1_000_000, torch.float32, 90, budget=12 * GB, device_budget=8 * GB)
    assert place == BasisPlace(200, on_device=True)


def test_a_whole_resnet_with_90_eigenvalues_goes_to_main_memory_on_a_16_gb_gpu():
    place = place_basis(23_520_000, torch.float32, 90, budget=12 * GB, device_budget=8 * GB)
    assert not place.on_device
    assert 93 <= place.basis_size < 200


def test_what_does_not_fit_is_refused_with_what_would():
    with pytest.raises(NumericsError, match=r"at least 8\.8 GB; it may take 4\.0 GB"):
        place_basis(23_520_000, torch.float32, 90, budget=4 * GB, device_budget=8 * GB)


@given(
    dimension=st.integers(1, 10**8),
    count=st.integers(1, 200),
    block_size=st.integers(1, 8),
    budget=st.floats(1e3, 1e12),
    device_budget=st.floats(1e3, 1e12),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_the_basis_keeps_within_both_budgets(
    dimension, count, block_size, budget, device_budget, dtype
):
    try:
        place = place_basis(
            dimension,
            dtype,
            count,
            budget=budget,
            device_budget=device_budget,
            block_size=block_size,
        )
    except NumericsError:
        return
    taken = (place.basis_size + block_size) * dimension * torch.finfo(dtype).bits // 8
    least = least_basis_size(dimension, count, block_size)
    assert taken <= budget
    assert place.on_device == (taken <= device_budget)
    assert least <= place.basis_size <= max(least, usual_basis_size(dimension, count, block_size))
