"""`data.validation`: which training images are held out, and what of a data set stays as it is."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tiny_study import TINY_SWEEP

from rfray.cell import Cell
from rfray.data.amount import images_held_out
from rfray.data.device import resident
from rfray.data.held_out import held_out
from rfray.data.registry import dataset_source
from rfray.data.validation import counts_by_class, with_validation
from rfray.errors import UserError
from rfray.plan import make_plan
from rfray.plan.keys import digest
from rfray.study.sweep_file import load_study

FACTS = dataset_source("digits").facts
NETWORK = {"arch": "vgg19_rf", "kernel_size": 5, "width": 0.0625}


@st.composite
def classes_and_wanted(draw):
    available = draw(st.lists(st.integers(1, 40), min_size=2, max_size=12))
    most = sum(available) - len(available)
    assume(most >= len(available))
    return available, draw(st.integers(len(available), most))


@given(classes_and_wanted())
def test_counts_make_exactly_what_is_wanted_and_leave_every_class_on_both_sides(case):
    available, wanted = case
    counts = counts_by_class(available, wanted)
    assert sum(counts) == wanted
    for count, images in zip(counts, available, strict=True):
        assert (1 <= count <= images - 1) or (count == 0 and images == 1)


@given(classes_and_wanted())
def test_counts_are_hamiltons_wherever_every_class_can_give_its_share(case):
    available, wanted = case
    shares = [wanted * images / sum(available) for images in available]
    assume(all(1 <= share <= images - 1 for share, images in zip(shares, available, strict=True)))
    expected = [int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda place: (-(shares[place] % 1), place))
    for place in by_remainder[: wanted - sum(expected)]:
        expected[place] += 1
    counts = counts_by_class(available, wanted)
    # Equal remainders may be told apart by rounding in this float oracle: the errors are equal.
    error = [abs(count - share) for count, share in zip(counts, shares, strict=True)]
    errors = [abs(count - share) for count, share in zip(expected, shares, strict=True)]
    assert max(error) < 1
    assert sorted(error) == pytest.approx(sorted(errors))


@given(classes_and_wanted(), st.randoms(use_true_random=False))
def test_the_images_held_out_are_as_many_of_each_class_and_the_same_each_time(case, random):
    available, wanted = case
    labels = [label for label, images in enumerate(available) for _ in range(images)]
    random.shuffle(labels)
    labels = torch.tensor(labels)
    out = held_out(labels, wanted)
    counts = counts_by_class(available, wanted)
    assert labels[out].bincount(minlength=len(available)).tolist() == counts
    torch.manual_seed(random.randrange(100))
    assert torch.equal(held_out(labels, wanted), out)


def test_a_class_that_no_image_has_gives_none():
    assert counts_by_class([4, 0, 4], 3) == [2, 0, 1]


def test_within_a_class_the_choice_is_spread_over_the_file():
    out = held_out(torch.zeros(1000, dtype=torch.int64), 100).nonzero().squeeze(1)
    assert 350 < out.double().mean() < 650


def test_both_parts_together_are_the_published_training_images():
    whole, parted = resident("digits", "cpu"), resident("digits", "cpu", 143)
    assert (len(parted.train), len(parted.validation)) == (1290, 143)
    assert parted.facts.train_images == 1290
    assert parted.facts.validation_images == 143

    def content(*splits):
        return Counter(
            (image.numpy().tobytes(), int(label))
            for split in splits
            for image, label in zip(split.images, split.labels, strict=True)
        )

    assert content(parted.train, parted.validation) == content(whole.train)
    assert torch.equal(parted.test.images, whole.test.images)
    assert (parted.facts.mean, parted.facts.deviation) == (whole.facts.mean, whole.facts.deviation)
    assert parted.train.images.is_contiguous(memory_format=torch.channels_last)


def test_these_very_digits_are_held_out():
    """Runs of different machines and versions are held against each other: it must not change."""
    out = held_out(resident("digits", "cpu").train.labels, 143).nonzero().squeeze(1)
    assert digest(out.tolist()) == "b29ccb70d64a39a5d9c8388e744b21c6"


def test_without_one_there_is_nothing_to_validate_on():
    assert resident("digits", "cpu").validation is None
    assert with_validation(FACTS, None) is FACTS


def test_a_share_is_the_number_that_it_makes():
    assert images_held_out(0.1, 1433) == 143
    assert with_validation(FACTS, 0.1) == with_validation(FACTS, 143)


@pytest.mark.parametrize("amount", [1, 9, 1424, 10**6, 0.0001, 0.9999])
def test_an_amount_that_would_empty_a_class_on_a_side_is_refused(amount):
    with pytest.raises(UserError, match=r"data\.validation: .*hold out 10 to 1,423"):
        with_validation(FACTS, amount)


@pytest.fixture
def plan_of(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(TINY_SWEEP)
    return lambda *overrides: make_plan(load_study(str(path), overrides))


def test_every_cell_sees_the_same_images():
    cells = [Cell(dataset="digits", seed=seed, validation=143, **NETWORK) for seed in (0, 1)]
    assert len({cell.facts.fingerprint for cell in cells}) == 1


def test_all_that_sees_data_gets_another_key_and_what_sees_none_keeps_it(plan_of):
    whole, parted = plan_of(), plan_of("data.validation=143")
    for other in (whole, plan_of("data.validation=144")):
        common = parted.nodes.keys() & other.nodes.keys()
        assert {parted.nodes[key].stage for key in common} == {"importance"}
    assert plan_of("data.validation=0.1").nodes.keys() == parted.nodes.keys()
    assert plan_of("data.validation=null").nodes.keys() == whole.nodes.keys()


def test_the_shipped_sweep_keeps_its_keys():
    """As released: whoever has results must not compute them anew."""
    since = [f"{stage}=false" for stage in ("barrier", "erf", "probe", "saturation")]
    nodes = make_plan(load_study("quickstart", [*since, "cka.at=[trained]"])).nodes
    assert digest(sorted(nodes)) == "ae3ad0c02f354a4ce0e6dfc97e630d7f"
    assert nodes.keys() < make_plan(load_study("quickstart")).nodes.keys()


def test_runs_have_the_same_names_and_say_how_many_images_are_held_out(plan_of):
    before, after = plan_of(), plan_of("data.validation=143")
    assert {node.name for node in before.nodes.values()} == {
        node.name for node in after.nodes.values()
    }
    for node in after.nodes.values():
        said = {name: node.params.get(name) for name in ("train_images", "validation_images")}
        held_out = {"train_images": 1290, "validation_images": 143}
        assert said == (dict.fromkeys(said) if node.stage == "importance" else held_out)
    assert not any("validation_images" in node.params for node in before.nodes.values())


def test_the_plan_says_how_many_are_held_out(plan_of):
    assert (
        "digits: 143 of its 1,433 training images are held out for validation, the same ones for "
        "every cell" in plan_of("data.validation=0.1").findings
    )


def test_a_plan_that_chooses_on_the_test_images_says_so(plan_of):
    def warned(*overrides):
        return [words for words in plan_of(*overrides).findings if "best on the test" in words]

    assert len(warned("train.checkpoint=best")) == 1
    assert len(warned("axes.train.checkpoint=[last, best]")) == 1
    assert warned("train.checkpoint=best", "data.validation=143") == []
    assert warned() == []


def test_a_stage_that_asks_for_more_images_than_are_left_is_refused(plan_of):
    with pytest.raises(UserError, match="has 433 training images"):
        plan_of("data.validation=1000", "hessian.images=500")
