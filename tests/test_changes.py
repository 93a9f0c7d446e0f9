"""A network kept as what changed from another one: the very same bits come back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rfray.cell import Cell
from rfray.plan import make_plan
from rfray.plan.cost import weight_bytes
from rfray.study.sweep_file import load_study
from rfray.training import weights
from rfray.training.changes import OtherWeightsError, changed, changes, load_changes, save_changes
from rfray.training.pruning import all_weights, apply_masks, prunable_weights, pruning_masks
from rfray.training.pruning_criteria import CRITERIA, SCOPES
from rfray.training.weight_files import CHANGES, INITIAL, INITIAL_NOTE, MODEL
from rfray.training.weight_size import mask_bytes, survivor_bytes, whole_bytes
from rfray.training.weights import (
    changed_state,
    initial_module,
    initial_state,
    load_changed,
    noted_cell,
    save_changed,
    save_initial,
    save_module,
)

CELL = Cell(dataset="digits", arch="resnet50", kernel_size=3, seed=1, width=0.0625)

SPECIAL = [0.0, -0.0, 1.0, -1.0, float("inf"), float("nan"), 1e-45, 3.4e38]
NUMBERS = st.one_of(st.sampled_from(SPECIAL), st.floats(width=32))


def bits(state):
    """Every byte of every tensor: NaN and -0.0 count for what they are."""
    return {
        name: (tensor.dtype, tuple(tensor.shape), tensor.reshape(-1).view(torch.uint8).tolist())
        for name, tensor in state.items()
    }


@st.composite
def two_states(draw):
    """Two networks of the same tensors, which may be equal, differ or be zero anywhere."""
    first, second = {}, {}
    for name in draw(st.lists(st.sampled_from("cadb"), min_size=1, unique=True)):
        shape = draw(st.sampled_from([(), (1,), (7,), (2, 3)]))
        count = int(np.prod(shape))
        kind = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64]))
        values = st.integers(-3, 3) if kind is torch.int64 else NUMBERS
        before = draw(st.lists(values, min_size=count, max_size=count))
        after = [draw(st.sampled_from([old, 0, draw(values)])) for old in before]
        first[name] = torch.tensor(before, dtype=kind).reshape(shape)
        second[name] = torch.tensor(after, dtype=kind).reshape(shape)
    return first, second


@given(two_states())
@settings(max_examples=150, deadline=None)
def test_what_changed_and_the_base_give_the_very_same_bits(states):
    base, state = states
    before = bits(base)
    assert bits(changed(base, changes(state, base))) == bits(state)
    assert bits(base) == before


def test_a_pruned_network_is_its_mask_alone(tmp_path):
    base = {"weight": torch.randn(1000, 100)}
    pruned = {"weight": base["weight"].where(base["weight"].abs() > 1, 0)}
    arrays = changes(pruned, base)
    assert set(arrays) == {"zero32"}
    assert arrays["zero32"].nbytes == 100_000 / 8
    save_changes(tmp_path / CHANGES, arrays, "digest")
    assert bits(changed(base, load_changes(tmp_path / CHANGES, "digest"))) == bits(pruned)


def test_the_format_is_what_the_documentation_says(tmp_path):
    """Read by other means: tensors by name, bits highest first, bytes by significance."""
    base = {"b": torch.tensor([1.0, 2.0, 3.0]), "a": torch.tensor([4.0])}
    state = {"b": torch.tensor([0.0, 2.5, 3.0]), "a": torch.tensor([-4.0])}
    save_changes(tmp_path / CHANGES, changes(state, base), "digest")
    with np.load(tmp_path / CHANGES) as file:
        assert str(file["base"]) == "digest"
        assert np.unpackbits(file["zero32"])[:4].tolist() == [0, 1, 0, 0]  # a, then b
        planes = file["apart32"].astype(np.int64)
    apart = planes[0] + (planes[1] << 8) + (planes[2] << 16) + (planes[3] << 24)
    distances = [number // 2 if number % 2 == 0 else -(number + 1) // 2 for number in apart]
    kept = np.float32([4.0, 2.0, 3.0]).view(np.uint32).astype(np.int64) + distances
    kept = (kept % 2**32).astype(np.uint32)
    assert kept.view(np.float32).tolist() == [-4.0, 2.5, 3.0]


def test_changes_of_another_network_are_no_changes():
    with pytest.raises(OtherWeightsError, match="the same network"):
        changes({"a": torch.zeros(2)}, {"a": torch.zeros(3)})


@pytest.fixture
def trained(tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    save_module(initial_module(CELL, "cpu"), folder / MODEL)
    return folder


def other(folder, scale):
    """A network whose every tensor differs, half of its weights zero."""
    module = initial_module(CELL, "cpu")
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.copy_(tensor * scale)
            flat = tensor.flatten().clone()
            flat[::2] = 0
            tensor.copy_(flat.reshape(tensor.shape))
    return module


def test_a_network_is_read_back_from_its_changes_and_from_a_whole_copy_of_an_old_store(
    tmp_path, trained
):
    module = other(trained, 1.001)
    new, old = tmp_path / "new", tmp_path / "old"
    for folder in (new, old):
        folder.mkdir()
    save_changed(module, trained, new)
    save_module(module, old / MODEL)
    assert [path.name for path in new.iterdir()] == [CHANGES]
    for folder in (new, old):
        assert bits(changed_state(folder, trained)) == bits(module.state_dict())
        loaded = load_changed(CELL, folder, trained, "cpu").state_dict()
        assert bits({n: t.contiguous() for n, t in loaded.items()}) == bits(module.state_dict())
    assert (new / CHANGES).stat().st_size < 0.45 * (old / MODEL).stat().st_size


def test_a_wrong_base_is_refused(tmp_path, trained):
    save_changed(other(trained, 1.001), trained, tmp_path)
    module = initial_module(CELL.model_copy(update={"seed": 2}), "cpu")
    save_module(module, trained / MODEL)
    with pytest.raises(OtherWeightsError, match="changes from other weights than those of"):
        changed_state(tmp_path, trained)


def test_initial_weights_are_drawn_again_to_the_same_bits(tmp_path):
    module = initial_module(CELL, "cpu")
    save_initial(module, CELL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [INITIAL_NOTE]
    assert noted_cell(tmp_path) == CELL
    assert bits(initial_state(CELL, tmp_path)) == bits(weights._state(module))


def test_initial_weights_that_another_pytorch_drew_are_refused(tmp_path):
    save_initial(initial_module(CELL, "cpu"), CELL, tmp_path)
    note = json.loads((tmp_path / INITIAL_NOTE).read_text())
    (tmp_path / INITIAL_NOTE).write_text(json.dumps({**note, "sha256": "0", "torch": "1.0"}))
    with pytest.raises(OtherWeightsError, match=r"drawn with PyTorch 1\.0: use that version"):
        initial_state(CELL, tmp_path)


def test_initial_weights_that_the_seed_does_not_give_are_kept_whole(tmp_path):
    module = other(tmp_path, 1)
    save_initial(module, CELL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [INITIAL]
    assert bits(initial_state(CELL, tmp_path)) == bits(weights._state(module))


@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_reckoned_sizes_are_those_of_the_files(tmp_path, rate):
    """Of a network large enough that what surrounds the numbers does not count."""
    cell = Cell(dataset="cifar10", arch="vgg19_rf", kernel_size=3, seed=0, width=0.25)
    module = initial_module(cell, "cpu")
    trained, pruned, tuned = (tmp_path / name for name in ("train", "prune", "finetune"))
    for folder in (trained, pruned, tuned):
        folder.mkdir()
    save_module(module, trained / MODEL)
    layers = prunable_weights(cell.any_network.weights, first_convolution=False, classifier=False)
    magnitude = CRITERIA["magnitude"](0)
    masks = pruning_masks(module, all_weights(module, layers), rate, SCOPES["global"], magnitude)
    apply_masks(module, masks)
    save_changed(module, trained, pruned)
    with torch.no_grad():  # a fine-tuning that leaves no bit as it was
        for weight in module.parameters():
            weight.mul_(torch.rand_like(weight) + 1)
    save_changed(module, trained, tuned)
    assert (trained / MODEL).stat().st_size == pytest.approx(whole_bytes(cell), rel=0.02)
    assert (pruned / CHANGES).stat().st_size == pytest.approx(mask_bytes(cell, rate), rel=0.2)
    size = (tuned / CHANGES).stat().st_size
    assert 0.6 * survivor_bytes(cell, rate) < size < 1.02 * survivor_bytes(cell, rate)


def test_the_papers_study_takes_less_than_30_gigabytes():
    assert weight_bytes(make_plan(load_study("paper", []))) < 30e9
