"""The frontier starts what it may, heaviest chain first, and never more than fits."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from slow_frontier import SlowFrontier

from rfray.engine.frontier import Frontier, State, upward_ranks
from rfray.engine.places import Occupancy, Places
from rfray.plan import make_plan
from rfray.study.sweep_file import load_study

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
        frontier.end(node.key, well=node.key not in fail)
    return order, widest


@pytest.mark.parametrize("seed", range(5))
def test_everything_runs_once_after_its_inputs_and_within_the_slots(plan, seed):
    frontier = Frontier(plan, done=(), machines={"one": Occupancy(cpus=3, gpus=0)})
    order, widest = drain(frontier, random.Random(seed).randrange)
    assert sorted(node.key for node in order) == sorted(plan.nodes)
    assert widest == 3
    place = {node.key: index for index, node in enumerate(order)}
    assert all(place[key] < place[node.key] for node in order for key in node.inputs)


def test_cells_with_small_kernels_start_first(plan):
    frontier = Frontier(plan, done=(), machines={"one": Occupancy(cpus=2, gpus=0)})
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
    frontier = Frontier(plan, done=done, machines={"one": Occupancy(cpus=99, gpus=0)})
    started = {node.stage for node in frontier.start(one_core)}
    assert started == {"prune", "hessian", "cka"}


def test_a_failure_skips_what_follows_it_and_nothing_else(plan):
    failed = next(key for key, node in plan.nodes.items() if node.stage == "train")
    frontier = Frontier(plan, done=(), machines={"one": Occupancy(cpus=2, gpus=0)})
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


def test_withdrawn_nodes_are_skipped_with_what_follows_them_unless_they_run(plan):
    frontier = Frontier(plan, done=(), machines={"one": ONE_CORE})
    (running,) = frontier.start(one_core)
    cells = [node for node in plan.nodes.values() if node.stage == "train"]
    skipped = frontier.withdraw(node.key for node in cells)
    assert running.key not in skipped
    assert frontier.states[running.key] is State.RUNNING
    waiting = {node.key for node in cells} - {running.key}
    followers = {key for key in plan.nodes for other in waiting if other in plan.nodes[key].inputs}
    assert waiting | followers <= set(skipped)
    assert all(frontier.states[key] is State.SKIPPED for key in skipped)
    assert frontier.withdraw(skipped) == []


def test_what_machines_offer_and_have_free_is_added_over_equal_and_unequal_ones():
    pair, single = Occupancy(cpus=4, gpus=2), Occupancy(cpus=8, gpus=1)
    places = Places({"a": pair, "b": pair, "c": pair, "d": single})
    places.take("b", Occupancy(cpus=1, gpus=0.5))
    assert places.total == Occupancy(cpus=20, gpus=7)
    assert places.free == Occupancy(cpus=19, gpus=6.5)


def test_what_is_missing_is_counted_by_kind_and_never_below_zero():
    free = Occupancy(cpus=3, gpus=1)
    assert free.lacks(Occupancy(cpus=5, gpus=4)) == (3, 2)
    assert free.lacks(Occupancy(cpus=1, gpus=0)) == (0, 0)
    assert free.lacks(Occupancy(cpus=5, gpus=0.5)) == (0, 2)


def test_a_training_cell_is_always_running_while_some_remain(plan):
    frontier = Frontier(plan, done=(), machines={"one": Occupancy(cpus=2, gpus=0)})
    running = []
    while any(
        frontier.states[key] is State.WAITING
        for key, node in plan.nodes.items()
        if node.stage == "train"
    ):
        running += list(frontier.start(one_core))
        assert any(node.stage == "train" for node in running)
        frontier.end(running.pop(0).key, well=True)


def test_a_large_request_is_not_starved_by_small_ones(plan):
    def demand(node):
        return Occupancy(1, 1.0 if node.stage == "train" else 0.25)

    frontier = Frontier(plan, done=(), machines={"one": Occupancy(cpus=8, gpus=1)})
    first = list(frontier.start(demand))
    assert [node.stage for node in first] == ["train"]
    frontier.end(first[0].key, well=True)
    assert [node.stage for node in frontier.start(demand)] == ["train"]


def test_what_needs_no_gpu_starts_while_the_gpus_are_taken(plan):
    def demand(node):
        return Occupancy(1, 0.0 if node.stage == "importance" else 1.0)

    frontier = Frontier(plan, done=(), machines={"one": Occupancy(cpus=8, gpus=1)})
    stages = [node.stage for node in frontier.start(demand)]
    assert sorted(stages) == ["importance", "importance", "train"]


def test_what_comes_next_is_told_and_not_started(plan):
    frontier = Frontier(plan, done=(), machines={"one": Occupancy(cpus=3, gpus=0)})
    told = frontier.upcoming(3)
    assert set(frontier.states.values()) == {State.WAITING}
    assert list(frontier.start(one_core)) == told


def test_a_node_that_may_not_start_yet_holds_nothing_up(plan):
    frontier = Frontier(plan, done=(), machines={"one": Occupancy(cpus=3, gpus=0)})
    heaviest, *others = frontier.upcoming(4)
    assert list(frontier.start(one_core, [node.key for node in others])) == others
    assert frontier.upcoming(1) == [heaviest]


def test_room_that_is_lost_is_not_given_away_before_it_is_back(plan):
    machines = {"a": Occupancy(cpus=2, gpus=0), "b": Occupancy(cpus=1, gpus=0)}
    frontier = Frontier(plan, done=(), machines=machines)
    running = list(frontier.start(one_core))
    frontier.follow({"b": machines["b"]})
    assert list(frontier.start(one_core)) == []
    on_b = next(node for node in running if frontier.place_of(node.key) == "b")
    frontier.end(on_b.key, well=True)  # its room is for one of those that have lost theirs
    assert list(frontier.start(one_core)) == []
    assert [frontier.place_of(node.key) for node in frontier.running()].count(None) == 1
    frontier.follow({**machines, "c": Occupancy(cpus=2, gpus=0)} | {"b": machines["b"]})
    assert len(list(frontier.start(one_core))) == 3
    assert None not in [frontier.place_of(node.key) for node in frontier.running()]


def test_a_node_of_four_cores_does_not_run_on_two_machines_of_two(plan):
    def demand(node):
        return Occupancy(4 if node.stage == "train" else 1, 0)

    frontier = Frontier(plan, (), dict.fromkeys("ab", Occupancy(cpus=2, gpus=0)))
    started = list(frontier.start(demand))
    assert started
    assert "train" not in {node.stage for node in started}
    assert frontier.counts()["train"][State.RUNNING] == 0
    assert frontier.unheld == {"train": Occupancy(4, 0)}
    frontier.follow({**dict.fromkeys("ab", Occupancy(2, 0)), "c": Occupancy(4, 0)})
    (train,) = frontier.start(demand)
    assert (train.stage, frontier.place_of(train.key)) == ("train", "c")
    assert frontier.unheld == {}


def test_one_that_needs_a_whole_machine_gets_one_though_others_would_fill_it(plan):
    def demand(node):
        return Occupancy(2 if node.stage == "train" else 1, 0)

    trains = [key for key, node in plan.nodes.items() if node.stage == "train"]
    frontier = Frontier(plan, trains[:2], dict.fromkeys("ab", Occupancy(cpus=2, gpus=0)))
    running = list(frontier.start(demand))
    assert {node.stage for node in running} > {"train"}
    while running:
        light = [node for node in running if node.stage != "train"]
        if not light:
            break
        frontier.end(light[0].key, well=True)
        running.remove(light[0])
        running += frontier.start(demand)
    assert len(running) == 2  # both machines hold a network, one each
    assert {frontier.place_of(node.key) for node in running} == {"a", "b"}


def test_no_machine_is_ever_given_more_than_it_has(plan):
    chance = random.Random(0)
    machines = {str(i): Occupancy(chance.choice([1, 2, 4]), 0) for i in range(4)} | {
        "large": Occupancy(4, 0)
    }
    needs = {stage: Occupancy(chance.choice([1, 2, 3]), 0) for stage in ("train", "prune")}

    def demand(node):
        return needs.get(node.stage, ONE_CORE)

    frontier = Frontier(plan, (), machines)
    while not frontier.finished:
        list(frontier.start(demand))
        used = Counter()
        for node in frontier.running():
            used[frontier.place_of(node.key)] += demand(node).cpus
        assert all(used[name] <= machine.cpus for name, machine in machines.items())
        frontier.end(chance.choice(frontier.running()).key, well=True)


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
MACHINES = {
    "one machine": lambda whole: {"one": whole},
    "three machines": lambda whole: {
        "large": whole, "other": whole, "small": Occupancy(whole.cpus // 2, whole.gpus / 2),
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", DEMANDS)
@pytest.mark.parametrize("split", MACHINES)
@pytest.mark.parametrize("seed", range(6))
def test_it_starts_what_a_walk_over_all_ready_nodes_would_start(plan, kind, split, seed):
    whole, draw = DEMANDS[kind]
    machines = MACHINES[split](whole)
    chance = random.Random(seed)
    of_stage = {stage: draw(chance) for stage in {node.stage for node in plan.nodes.values()}}

    def demand(node):
        return of_stage[node.stage]

    fast, slow = Frontier(plan, (), machines), SlowFrontier(plan, machines)
    running = []
    while not fast.finished:
        started = list(fast.start(demand))
        places = {node.key: fast.place_of(node.key) for node in started}
        told = slow.start(demand)
        assert [node.name for node in started] == [node.name for node in told]
        assert all(slow.held[key][0] == place for key, place in places.items())
        running += started
        node = running.pop(chance.randrange(len(running)))
        fast.end(node.key, well=True)
        slow.end(node.key)


@pytest.mark.parametrize("seeds", [2, 40])
def test_a_step_asks_the_same_however_many_nodes_wait(tiny_sweep, seeds):
    study = load_study(str(tiny_sweep), [f"axes.seed={list(range(seeds))}"])
    frontier = Frontier(make_plan(study), (), {"one": Occupancy(cpus=10_000, gpus=1)})
    asked = []

    def demand(node):
        asked.append(node)
        return Occupancy(1, 1)

    while not frontier.finished:
        asked.clear()
        (node,) = frontier.start(demand)
        assert len(asked) <= 1 + len(frontier.counts())
        frontier.end(node.key, well=True)


def test_counts_are_kept_as_nodes_move(plan):
    frontier = Frontier(plan, (), {"one": Occupancy(cpus=3, gpus=0)})
    running = []
    while not frontier.finished:
        running += frontier.start(one_core)
        node = running.pop()
        frontier.end(node.key, well=node.stage != "prune")
        told = Counter((n.stage, frontier.states[key]) for key, n in plan.nodes.items())
        kept = {(stage, s): n for stage, c in frontier.counts().items() for s, n in c.items() if n}
        assert kept == told
