"""What a sweep decides on a cluster that has little yet, what it asks for, and what it says."""

from __future__ import annotations

import math

import pytest

from rfray.engine.frontier import Frontier
from rfray.engine.ground import Ground
from rfray.engine.places import GIB, Machine, Occupancy
from rfray.engine.prospects import MachineKind, Prospects
from rfray.errors import UserError
from rfray.plan import make_plan
from rfray.study.sweep_file import load_study

HEAD = Machine(Occupancy(0, 0), 8 * GIB)
PLAIN, WITH_GPU = Machine(Occupancy(8, 0), 32 * GIB), Machine(Occupancy(8, 1), 32 * GIB)


def could_start(machine, most):
    return Prospects((MachineKind("worker", machine, most),), most, HEAD)


class Cluster:
    """An executor's view of a cluster; keeps what is wanted of it."""

    def __init__(self, prospects, **machines):
        self.machines, self.prospects = {"head": HEAD, **machines}, prospects
        self.wanted = []

    def want(self, bundles):
        self.wanted.append(list(bundles))


@pytest.fixture
def plan(tiny_sweep):
    return make_plan(load_study(str(tiny_sweep), ["axes.seed=[0,1,2,3]"]))


@pytest.fixture
def on(plan, monkeypatch):
    """The ground on a cluster, its frontier, and what it notes; it asks at every look."""
    monkeypatch.setattr("rfray.engine.ground._ASK_SECONDS", 0.0)

    def stand(cluster, plan=plan):
        notes = []
        ground = Ground(plan, cluster, notes.append)
        return ground, Frontier(plan, (), ground.occupancies), notes

    return stand


def test_gpus_are_used_where_they_could_come_whatever_is_there_at_first(on):
    ground, frontier, notes = on(Cluster(could_start(WITH_GPU, 4), plain=PLAIN))
    assert ground.follow(frontier)
    assert ground.gpus is True
    assert "the study runs on GPUs" in notes[0]


def test_without_any_in_prospect_it_runs_on_processors_and_says_so(on):
    ground, frontier, notes = on(Cluster(could_start(PLAIN, 4)))
    assert ground.follow(frontier)
    assert ground.gpus is False
    assert "the study runs on CPUs" in notes[0]


def test_where_nobody_can_tell_the_first_machine_decides(on):
    cluster = Cluster(None)
    ground, frontier, notes = on(cluster)
    assert not ground.follow(frontier)
    assert "waiting for a machine with a CPU or GPU" in ground.waiting_words(frontier)
    assert notes == []
    cluster.machines = {**cluster.machines, "new": WITH_GPU}
    assert ground.follow(frontier)
    assert (ground.gpus, ground.waiting_words(frontier)) == (True, "")


def test_what_no_machine_could_ever_run_is_refused_at_once(on, tiny_sweep):
    greedy = make_plan(load_study(str(tiny_sweep), ["resources.prune.cpus=9"]))
    ground, frontier, _ = on(Cluster(could_start(WITH_GPU, 4)), greedy)
    with pytest.raises(UserError, match=r"resources\.prune: asks for 9 CPUs"):
        ground.follow(frontier)


def test_it_asks_for_what_is_of_use_within_what_could_be_and_for_nothing_at_the_end(on):
    cluster = Cluster(could_start(WITH_GPU, 2))
    ground, frontier, notes = on(cluster)
    ground.follow(frontier)
    ground.ask(frontier)
    assert cluster.wanted[-1] == [{"CPU": 1.0, "GPU": 1.0}] * 2
    assert notes[-1] == "asks the cluster for 2 GPUs in all"
    assert list(frontier.start(ground.demand)) == []
    words = ground.waiting_words(frontier)
    assert "a machine with 1 CPUs and 1 GPUs (train" in words

    cluster.machines = {**cluster.machines, "one": WITH_GPU}
    ground.follow(frontier)
    while not frontier.finished:
        list(frontier.start(ground.demand))
        for node in frontier.running():
            ground.ended(node)
            frontier.end(node.key, well=True)
            ground.ask(frontier)
            gpus = sum(bundle["GPU"] for bundle in cluster.wanted[-1])
            assert gpus <= 2
    assert cluster.wanted[-1] == []
    assert ground.waiting_words(frontier) == ""


def test_a_cluster_that_does_not_tell_what_it_could_start_is_asked_for_any_machine(on):
    ground, frontier, _ = on(cluster := Cluster(Prospects((), 0, HEAD, untold=True)))
    assert not ground.follow(frontier)
    ground.ask(frontier)
    assert cluster.wanted == [[{"CPU": 1.0}]]


def test_memory_is_part_of_what_is_asked_for(on, tiny_sweep):
    plan = make_plan(load_study(str(tiny_sweep), ["resources.train.memory=1000000000"]))
    kinds = (MachineKind("any", Machine(Occupancy(8, 0), math.inf), 9),)
    ground, frontier, _ = on(cluster := Cluster(Prospects(kinds, 9, HEAD)), plan)
    ground.follow(frontier)
    ground.ask(frontier)
    assert {"CPU": 1.0, "memory": 1e9} in cluster.wanted[-1]
