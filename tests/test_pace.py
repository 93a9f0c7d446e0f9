from __future__ import annotations

from collections import defaultdict

import pytest

from rfray.engine.pace import Pace
from rfray.plan import make_plan
from rfray.study.sweep_file import load_study


@pytest.fixture
def by_stage(tiny_sweep):
    nodes = defaultdict(list)
    for node in make_plan(load_study(str(tiny_sweep))).nodes.values():
        nodes[node.stage].append(node)
    return nodes


def all_of(by_stage):
    return [node for nodes in by_stage.values() for node in nodes]


def test_nothing_is_foretold_before_anything_has_finished(by_stage):
    assert Pace(all_of(by_stage)).seconds_left(10.0, []) is None


def test_each_stage_is_judged_by_its_own_runs(by_stage):
    trains, prunes = by_stage["train"], by_stage["prune"]
    pace = Pace([*trains, *prunes])
    pace.finished(trains[0], 10.0)
    pace.finished(prunes[0], 2.0)
    # On one slot, 12 seconds so far: one more train of 10, three more prunes of 2.
    assert pace.seconds_left(12.0, []) == pytest.approx(10 + 3 * 2)
    # On two slots the same took half of the time, and so does the rest.
    assert pace.seconds_left(6.0, []) == pytest.approx(8)


def test_a_stage_without_a_run_is_judged_by_all(by_stage):
    trains, hessians = by_stage["train"], by_stage["hessian"]
    pace = Pace([trains[0], hessians[0]])
    pace.finished(trains[0], 10.0)
    assert pace.seconds_left(10.0, []) == pytest.approx(10 * hessians[0].work / trains[0].work)


def test_what_failed_or_was_skipped_is_left_no_more(by_stage):
    trains = by_stage["train"]
    pace = Pace(trains)
    pace.finished(trains[0], 10.0)
    pace.dropped(trains[1])
    assert pace.seconds_left(10.0, []) == 0


def test_what_runs_has_done_a_part_of_what_is_left(by_stage):
    trains = by_stage["train"]
    pace = Pace(trains)
    pace.finished(trains[0], 10.0)
    # The second has taken 4 of its 10 seconds, behind the first on one slot.
    assert pace.seconds_left(14.0, [(trains[1], 4.0)]) == pytest.approx(6)


def test_a_run_that_takes_longer_than_was_to_be_expected_leaves_nothing_to_foretell(by_stage):
    trains = by_stage["train"]
    pace = Pace(trains)
    pace.finished(trains[0], 10.0)
    assert pace.seconds_left(25.0, [(trains[1], 15.0)]) is None


def test_the_first_run_of_a_stage_raises_what_is_expected_of_its_others(by_stage):
    train, prunes = by_stage["train"][0], by_stage["prune"]
    pace = Pace([train, *prunes])
    pace.finished(train, 1.0)
    # By its operations a prune would take less than a second, and the first has taken ten.
    assert prunes[0].work < train.work
    left = pace.seconds_left(11.0, [(prunes[0], 10.0)])
    assert left == pytest.approx((len(prunes) - 1) * 10)
