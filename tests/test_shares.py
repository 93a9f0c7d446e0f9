"""Which share of a card each node is given, and what follows where its memory was used up."""

from __future__ import annotations

import pytest

from rfray.cli import main
from rfray.engine.assemble import assemble, demands
from rfray.engine.job import CardUse
from rfray.engine.places import Occupancy
from rfray.engine.shares import MOST, Grant, Shares, cells_a_card
from rfray.plan import make_plan
from rfray.study.sweep_file import load_study
from rfray.tracking import RunRecord

GB = 1e9


@pytest.fixture
def plan(tiny_sweep):
    def planned(*overrides):
        return make_plan(load_study(str(tiny_sweep), overrides))

    return planned


def shares_of(plan, *, gpus=True):
    usual = demands(plan, gpus=gpus)
    return Shares(plan, lambda node: usual[node.stage])


def nodes_of(plan, stage):
    return [node for node in plan.nodes.values() if node.stage == stage]


def on(gpus):
    return Occupancy(1, gpus)


def test_training_has_a_whole_gpu_and_what_follows_a_quarter(plan):
    shares = shares_of(plan())
    for stage, share in {"train": 1, "prune": 0.25, "hessian": 0.25}.items():
        assert shares.grant(nodes_of(plan(), stage)[0]) == Grant(on(share))


def test_a_quarter_that_was_not_enough_becomes_a_whole_gpu_and_it_says_so(plan):
    shares, node = shares_of(plan()), nodes_of(plan(), "prune")[0]
    assert shares.try_again(node, shares.grant(node))
    assert shares.demand(node) == on(1)
    assert shares.grant(node).remarks == (
        "The GPU's memory was used up on a share of 0.25: computed on a whole GPU instead.",
    )


def test_the_others_of_its_stage_keep_their_quarter(plan):
    shares = shares_of(plan())
    first, second, *_ = nodes_of(plan(), "prune")
    shares.try_again(first, shares.grant(first))
    assert shares.demand(second) == on(0.25)


def test_where_a_whole_gpu_is_not_enough_training_has_failed(plan):
    """Fewer images at a time would be other batch norms: other numbers."""
    shares, node = shares_of(plan()), nodes_of(plan(), "train")[0]
    assert not shares.try_again(node, shares.grant(node))


def test_hessian_takes_half_as_many_images_at_a_time_until_there_is_one(plan):
    shares, node = shares_of(plan("hessian.micro_batch=6")), nodes_of(plan(), "hessian")[0]
    node = nodes_of(plan("hessian.micro_batch=6"), "hessian")[0]
    given, seen = shares.grant(node), []
    while shares.try_again(node, given):
        given = shares.grant(node)
        seen.append((given.occupancy.gpus, 6 >> given.halvings))
    assert seen == [(1, 6), (1, 3), (1, 1)]
    assert given.remarks[-1] == (
        "The GPU's memory was used up: computed 1 images at a time instead of 6, which changes "
        "only rounding."
    )


def test_a_processor_has_no_more_to_give(plan):
    shares, node = shares_of(plan(), gpus=False), nodes_of(plan(), "hessian")[0]
    assert not shares.try_again(node, shares.grant(node))


def test_the_job_is_what_was_granted(plan, tmp_path):
    whole = plan("hessian.micro_batch=6")
    node = nodes_of(whole, "hessian")[0]
    run = RunRecord("r", "n", "RUNNING", 0, None, str(tmp_path), {}, {}, {})

    def granted(grant):
        return assemble(whole, node, run, [], grant, tmp_path, "")

    job = granted(Grant(on(1)))
    assert (job.share, job.parameters["micro_batch"], job.remarks) == (1, 6, [])
    assert granted(Grant(on(0.25))).share == 0.25
    fewer = granted(Grant(on(1), halvings=1, remarks=("Fewer.",)))
    assert fewer.parameters == {**job.parameters, "micro_batch": 3}
    assert fewer.remarks == ["Fewer."]
    assert fewer.key == job.key


# Figures as a card of 80 GB would tell them; how many cells then share it.
RECORDED = [
    ("a small network that leaves the card waiting", 3e9, 0.12, MOST),
    ("one that is busy a third of the time", 3e9, 0.33, 3),
    ("one that is busy a little more than half of it", 3e9, 0.55, 1),
    ("one that is busy half of it", 3e9, 0.5, 2),
    ("one that never rests", 6e9, 0.98, 1),
    ("one that needs a third of the memory", 23e9, 0.1, 3),
    ("one that needs half of it", 41e9, 0.1, 1),
    ("one that nobody could see at work", 3e9, None, 1),
    ("one that was never seen at work", 3e9, 0.0, MOST),
]


@pytest.mark.parametrize(
    ("peak", "busy", "cells"), [row[1:] for row in RECORDED], ids=[row[0] for row in RECORDED]
)
def test_as_many_cells_share_a_card_as_have_memory_and_time_there(peak, busy, cells):
    assert cells_a_card(CardUse(peak=peak, total=80 * GB, utilisation=busy)) == cells


AUTO = ("resources.train.gpus=auto", "axes.width=[0.0625, 0.125]", "axes.seed=[0, 1, 2]")


def use(busy):
    return CardUse(peak=3 * GB, total=80 * GB, utilisation=busy)


def of_width(plan, width):
    return [node for node in nodes_of(plan, "train") if node.cells[0].width == width]


def test_auto_gives_the_first_cell_of_each_kind_a_whole_gpu_and_has_it_measured(plan):
    shares = shares_of(plan(*AUTO))
    for node in nodes_of(plan(*AUTO), "train"):
        assert shares.grant(node) == Grant(on(1), metered=True)


def test_auto_packs_the_next_ones_of_that_kind_alone(plan):
    auto = plan(*AUTO)
    shares = shares_of(auto)
    first, second, third = of_width(auto, 0.0625)
    shares.measured(first, use(0.33))
    shares.measured(second, use(0.01))  # it shared the card: the first figure counts
    assert shares.grant(third) == Grant(on(0.3333))
    assert shares.demand(of_width(auto, 0.125)[0]) == on(1)


def test_out_of_memory_halves_the_packing_for_all_and_says_so(plan):
    auto = plan(*AUTO)
    shares = shares_of(auto)
    first, second, third = of_width(auto, 0.0625)
    shares.measured(first, use(0.2))
    five = shares.grant(second)
    assert five.occupancy.gpus == 0.2
    assert shares.try_again(second, five)
    assert shares.try_again(third, five)  # on the same card at the same time: halved once
    assert shares.demand(first) == shares.demand(second) == shares.demand(third) == on(0.5)
    assert shares.grant(second).remarks == (
        "The GPU's memory was used up on a share of 0.2: computed on 0.5 of one instead.",
    )
    assert shares.try_again(second, shares.grant(second))
    assert shares.demand(first) == on(1)
    assert not shares.try_again(second, shares.grant(second))


def test_auto_on_processors_takes_none(plan):
    shares = shares_of(plan(*AUTO), gpus=False)
    assert shares.grant(nodes_of(plan(*AUTO), "train")[0]) == Grant(on(0))


def test_auto_is_for_training_alone(tiny_sweep, capsys):
    with pytest.raises(SystemExit) as left:
        main(["plan", str(tiny_sweep), "resources.hessian.gpus=auto"])
    assert left.value.code == 2
    assert "hessian.gpus is auto, but only train may be" in capsys.readouterr().err


@pytest.mark.parametrize("share", ["lots", "-1", "true"])
def test_what_is_no_share_is_told_in_one_line(tiny_sweep, capsys, share):
    with pytest.raises(SystemExit):
        main(["plan", str(tiny_sweep), f"resources.train.gpus={share}"])
    (line,) = capsys.readouterr().err.splitlines()
    assert "resources.train.gpus: a share of a GPU is a number such as 0.25 or 1, or auto" in line
