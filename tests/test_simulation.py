"""The simulated schedule keeps to the bounds of list scheduling, and costs follow what was seen."""

from __future__ import annotations

import json
import random

import pytest
from click.testing import CliRunner

from rfray.cli import rfray
from rfray.engine.places import Occupancy
from rfray.engine.simulation import simulate
from rfray.errors import UserError
from rfray.plan import make_plan
from rfray.plan.cost import durations
from rfray.study.sweep_file import load_study


@pytest.fixture
def plan(tiny_sweep):
    return make_plan(load_study(str(tiny_sweep), ["axes.kernel_size=[2, 5]", "axes.seed=[0,1,2]"]))


def one_core(_node):
    return Occupancy(cpus=1, gpus=0)


def random_seconds(plan, seed):
    draws = random.Random(seed)
    return {key: draws.uniform(0.5, 20.0) for key in plan.nodes}


def longest_chain(plan, seconds):
    ends = {}
    for key, node in plan.nodes.items():
        ends[key] = seconds[key] + max((ends[needed] for needed in node.inputs), default=0.0)
    return max(ends.values())


def cores(count):
    """One machine."""
    return {"all": Occupancy(count, 0)}


def test_one_slot_takes_the_sum_of_all(plan):
    seconds = random_seconds(plan, 0)
    schedule = simulate(plan, (), cores(1), one_core, lambda node: seconds[node.key])
    assert schedule.makespan == pytest.approx(sum(seconds.values()))
    assert schedule.utilisation == pytest.approx(1.0)
    assert schedule.slot_hours == pytest.approx(sum(seconds.values()) / 3600)


def test_slots_without_end_take_the_longest_chain(plan):
    seconds = random_seconds(plan, 1)
    schedule = simulate(plan, (), cores(999), one_core, lambda node: seconds[node.key])
    assert schedule.makespan == pytest.approx(longest_chain(plan, seconds))


@pytest.mark.parametrize("slots", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_any_schedule_lies_between_the_bounds_of_list_scheduling(plan, slots, seed):
    """Graham 1969: no greedy schedule is longer than total/m + (1 - 1/m)·longest chain."""
    seconds = random_seconds(plan, seed)
    schedule = simulate(plan, (), cores(slots), one_core, lambda node: seconds[node.key])
    total, chain = sum(seconds.values()), longest_chain(plan, seconds)
    assert schedule.makespan >= max(total / slots, chain) - 1e-6
    assert schedule.makespan <= total / slots + (1 - 1 / slots) * chain + 1e-6
    assert schedule.busy == pytest.approx(total)


def test_what_is_done_costs_nothing(plan):
    schedule = simulate(plan, set(plan.nodes), cores(2), one_core, lambda node: 1.0)
    assert schedule.makespan == 0
    assert schedule.utilisation == 1.0


def test_stages_share_a_gpu(plan):
    trains = [node for node in plan.nodes.values() if node.stage == "train"]
    others = set(plan.nodes) - {node.key for node in trains}
    quarter = simulate(
        plan, {node.key for node in trains}, {"all": Occupancy(64, 1)},
        lambda _: Occupancy(1, 0.25), lambda node: 1.0,
    )  # fmt: skip
    assert quarter.makespan <= -(-len(others) // 4) + 1
    assert quarter.busy == pytest.approx(len(others) / 4)


def test_a_node_runs_on_one_machine(plan):
    """Two machines of three cores hold two nodes of two cores; one of six would hold three."""
    apart, together = {"one": Occupancy(3, 0), "two": Occupancy(3, 0)}, cores(6)

    def makespan(machines):
        return simulate(plan, (), machines, lambda _: Occupancy(2, 0), lambda _: 1.0).makespan

    assert makespan(apart) >= len(plan.nodes) / 2
    assert makespan(together) < makespan(apart)


def test_a_node_that_never_fits_is_refused(plan):
    with pytest.raises(ValueError, match="more than any machine has"):
        simulate(plan, (), cores(2), lambda _: Occupancy(4, 0), lambda node: 1.0)


def test_without_a_finished_run_operations_are_counted(plan):
    seconds = durations(plan, {}, operations_per_second=lambda _: 1e9)
    node = next(iter(plan.nodes.values()))
    assert seconds(node) == node.work / 1e9


def test_a_node_takes_what_its_likes_took(plan):
    trains = [node for node in plan.nodes.values() if node.stage == "train"]
    small = [node for node in trains if node.cells[0].kernel_size == 2]
    seconds = durations(plan, {small[0].key: 30.0, small[1].key: 50.0}, lambda _: 1e9)
    assert seconds(small[0]) == 30.0
    assert seconds(small[2]) == 40.0
    other = next(node for node in trains if node.cells[0].kernel_size == 5)
    assert seconds(other) == pytest.approx(40.0 * other.work / small[0].work)
    hessian = next(node for node in plan.nodes.values() if node.stage == "hessian")
    assert seconds(hessian) == pytest.approx(40.0 * hessian.work / small[0].work)


def test_a_plan_says_how_long_it_takes_on_so_many_slots(tiny_sweep, tmp_path):
    def schedule(*arguments):
        answer = CliRunner().invoke(
            rfray, ["plan", str(tiny_sweep), "--storage", str(tmp_path), "--json", *arguments]
        )
        assert answer.exit_code == 0, answer.output
        return json.loads(answer.output)["schedule"]

    one = schedule("--slots", "1", "--slot", "cpu", "--price", "2")
    two = schedule("--slots", "2", "--slot", "cpu")
    assert one["utilisation"] == pytest.approx(1.0)
    assert one["cost"] == pytest.approx(2 * one["makespan_seconds"] / 3600)
    assert one["makespan_seconds"] / 2 <= two["makespan_seconds"] < one["makespan_seconds"]
    assert "nothing has run on a CPU yet" in one["basis"]
    assert schedule("--slots", "4")["makespan_seconds"] < two["makespan_seconds"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--price", "2"], "add --slots N"), (["--slots", "2", "--price", "-1"], "--price")],
)
def test_a_price_of_nothing_or_below_nothing_is_refused(tiny_sweep, tmp_path, arguments, said):
    storage = ["--storage", str(tmp_path)]
    answer = CliRunner().invoke(rfray, ["plan", str(tiny_sweep), *storage, *arguments])
    assert answer.exit_code != 0
    assert said in answer.output + str(answer.exception)


def test_more_than_all_slots_is_refused(tiny_sweep, tmp_path):
    with pytest.raises(UserError, match=r"resources.train.*more than the 2 CPUs"):
        rfray.main(
            ["plan", str(tiny_sweep), "--storage", str(tmp_path), "--slots", "2", "--slot", "cpu",
             "resources.train.cpus=3"],
            standalone_mode=False,
        )  # fmt: skip
