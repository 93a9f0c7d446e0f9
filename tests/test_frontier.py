"""The frontier starts what it may, heaviest chain first, and never more than fits."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from slow_frontier import SlowFrontier

from rfray.engine.frontier import Frontier, Occupancy, State, upward_ranks
from rfray.plan import make_plan
from rfray.sweep_file import load_study

ONE_CORE = Occupancy(cpus=1, gpus=0)


@pytest.fixture
def plan(tiny_sweep):
    return make_plan(load_study(str(tiny_sweep), ["axes.kernel_size=[2, 5]"]))


def one_core(_node):
    return ONE_CORE


def drain(frontier, choose, fail=()):
    """Run everything; the order in which nodes started and the most that ran at once."""
    running, order, widest = [], [], 0
    while not frontier.finished:
        started = list(frontier.start(one_core))
        running += started
        order += started
        widest = max(widest, len(running))
        node = running.pop(choose(len(running)))
        frontier.end(node.key, ONE_CORE, well=node.key not in fail)
    return order, widest


@pytest.mark.parametrize("seed", range(5))
def test_everything_runs_once_after_its_inputs_and_within_the_slots(plan, seed):
    frontier = Frontier(plan, done=(), capacity=Occupancy(cpus=3, gpus=0))
    order, widest = drain(frontier, random.Random(seed).randrange)
    assert sorted(node.key for node in order) == sorted(plan.nodes)
    assert widest == 3
    place = {node.key: index for index, node in enumerate(order)}
    assert all(place[key] < place[node.key] for node in order for key in node.inputs)


def test_cells_with_small_kernels_start_first(plan):
    frontier = Frontier(plan, done=(), capacity=Occupancy(cpus=2, gpus=0))
    started = list(frontier.start(one_core))
    assert [node.cells[0].kernel_size for node in started] == [2, 2]
    assert {node.stage for node in started} == {"train"}


def test_a_rank_is_the_work_of_the_longest_chain(plan):
    ranks = upward_ranks(plan)
    dependents = plan.dependents()
    for key, node in plan.nodes.items():
        behind = [ranks[reader] for reader in dependents[key]]
        assert ranks[key] == node.work + max(behind, default=0)


def test_what_is_done_is_not_started_again(plan):
    done = {key for key, node in plan.nodes.items() if node.stage in ("train", "importance")}
    frontier = Frontier(plan, done=done, capacity=Occupancy(cpus=99, gpus=0))
    started = {node.stage for node in frontier.start(one_core)}
    assert started == {"prune", "hessian", "cka"}


def test_a_failure_skips_what_follows_it_and_nothing_else(plan):
    failed = next(key for key, node in plan.nodes.items() if node.stage == "train")
    frontier = Frontier(plan, done=(), capacity=Occupancy(cpus=2, gpus=0))
    drain(frontier, lambda count: count - 1, fail={failed})
    followers, pending = set(), [failed]
    while pending:
        for reader in plan.dependents()[pending.pop()]:
            followers.add(reader)
            pending.append(reader)
    states = frontier.states
    assert states[failed] is State.FAILED
    assert {key for key, state in states.items() if state is State.SKIPPED} == followers
    assert all(states[k] is State.DONE for k in plan.nodes if k not in {failed, *followers})


def test_a_training_cell_is_always_running_while_some_remain(plan):
    frontier = Frontier(plan, done=(), capacity=Occupancy(cpus=2, gpus=0))
    running = []
    while any(
        frontier.states[key] is State.WAITING
        for key, node in plan.nodes.items()
        if node.stage == "train"
    ):
        running += list(frontier.start(one_core))
        assert any(node.stage == "train" for node in running)
        frontier.end(running.pop(0).key, ONE_CORE, well=True)


def test_a_large_request_is_not_starved_by_small_ones(plan):
    def demand(node):
        return Occupancy(1, 1.0 if node.stage == "train" else 0.25)

    frontier = Frontier(plan, done=(), capacity=Occupancy(cpus=8, gpus=1))
    first = list(frontier.start(demand))
    assert [node.stage for node in first] == ["train"]
    frontier.end(first[0].key, demand(first[0]), well=True)
    assert [node.stage for node in frontier.start(demand)] == ["train"]


def test_what_needs_no_gpu_starts_while_the_gpus_are_taken(plan):
    def demand(node):
        return Occupancy(1, 0.0 if node.stage == "importance" else 1.0)

    frontier = Frontier(plan, done=(), capacity=Occupancy(cpus=8, gpus=1))
    stages = [node.stage for node in frontier.start(demand)]
    assert sorted(stages) == ["importance", "importance", "train"]


def test_what_comes_next_is_told_and_not_started(plan):
    frontier = Frontier(plan, done=(), capacity=Occupancy(cpus=3, gpus=0))
    told = frontier.upcoming(3)
    assert set(frontier.states.values()) == {State.WAITING}
    assert list(frontier.start(one_core)) == told


def test_a_node_that_may_not_start_yet_holds_nothing_up(plan):
    frontier = Frontier(plan, done=(), capacity=Occupancy(cpus=3, gpus=0))
    heaviest, *others = frontier.upcoming(4)
    assert list(frontier.start(one_core, [node.key for node in others])) == others
    assert frontier.upcoming(1) == [heaviest]


def test_room_that_is_lost_is_not_given_away_before_it_is_back(plan):
    frontier = Frontier(plan, done=(), capacity=Occupancy(cpus=3, gpus=0))
    running = list(frontier.start(one_core))
    frontier.free -= Occupancy(cpus=2, gpus=0)
    frontier.end(running[0].key, ONE_CORE, well=True)
    frontier.end(running[1].key, ONE_CORE, well=True)
    assert list(frontier.start(one_core)) == []
    frontier.free += Occupancy(cpus=1, gpus=0)
    assert len(list(frontier.start(one_core))) == 1


DEMANDS = {
    "cores alone": (Occupancy(cpus=5, gpus=0), lambda r: Occupancy(r.choice([1, 2, 3, 5]), 0)),
    "shares of GPUs": (
        Occupancy(cpus=10_000, gpus=2),
        lambda r: Occupancy(1, r.choice([0, 0.25, 0.5, 1, 2])),
    ),
    "cores and GPUs": (
        Occupancy(cpus=6, gpus=2),
        lambda r: Occupancy(r.choice([1, 2, 4]), r.choice([0, 0.25, 0.5, 1])),
    ),
}


@pytest.mark.parametrize("kind", DEMANDS)
@pytest.mark.parametrize("seed", range(6))
def test_it_starts_what_a_walk_over_all_ready_nodes_would_start(plan, kind, seed):
    capacity, draw = DEMANDS[kind]
    chance = random.Random(seed)
    of_stage = {stage: draw(chance) for stage in {node.stage for node in plan.nodes.values()}}

    def demand(node):
        return of_stage[node.stage]

    fast, slow = Frontier(plan, (), capacity), SlowFrontier(plan, capacity)
    running = []
    while not fast.finished:
        started = list(fast.start(demand))
        assert [node.name for node in started] == [node.name for node in slow.start(demand)]
        running += started
        node = running.pop(chance.randrange(len(running)))
        fast.end(node.key, demand(node), well=True)
        slow.end(node.key, demand(node))


@pytest.mark.parametrize("seeds", [2, 40])
def test_a_step_asks_the_same_however_many_nodes_wait(tiny_sweep, seeds):
    study = load_study(str(tiny_sweep), [f"axes.seed={list(range(seeds))}"])
    frontier = Frontier(make_plan(study), (), Occupancy(cpus=10_000, gpus=1))
    asked = []

    def demand(node):
        asked.append(node)
        return Occupancy(1, 1)

    while not frontier.finished:
        asked.clear()
        (node,) = frontier.start(demand)
        assert len(asked) <= 1 + len(frontier.counts())
        frontier.end(node.key, demand(node), well=True)


def test_counts_are_kept_as_nodes_move(plan):
    frontier = Frontier(plan, (), Occupancy(cpus=3, gpus=0))
    running = []
    while not frontier.finished:
        running += frontier.start(one_core)
        node = running.pop()
        frontier.end(node.key, ONE_CORE, well=node.stage != "prune")
        told = Counter((n.stage, frontier.states[key]) for key, n in plan.nodes.items())
        kept = {(stage, s): n for stage, c in frontier.counts().items() for s, n in c.items() if n}
        assert kept == told
