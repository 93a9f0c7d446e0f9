"""What a sweep asks a cluster for: what finishes it sooner, what there could be."""

from __future__ import annotations

import math
import random

import pytest
import yaml

from rfray.engine.assemble import demands
from rfray.engine.frontier import Frontier
from rfray.engine.ground import runs_on_gpus
from rfray.engine.places import GIB, Machine, Occupancy
from rfray.engine.prospects import (
    SECONDS_KEPT,
    MachineKind,
    Prospects,
    Wishes,
    occupancy_of,
    read_prospects,
)
from rfray.engine.simulation import simulate
from rfray.engine.wanted import Outlook, left_of
from rfray.plan import make_plan
from rfray.study.sweep_file import load_study

ONE_GPU = {"CPU": 1.0, "GPU": 1.0}
ONE_CORE = {"CPU": 1.0}


@pytest.fixture(scope="module")
def paper():
    return make_plan(load_study("paper", []))


@pytest.fixture
def plan(tiny_sweep):
    return make_plan(load_study(str(tiny_sweep), ["axes.kernel_size=[2, 5]", "axes.seed=[0,1,2]"]))


def outlook_of(plan, frontier, *, gpus):
    return Outlook(plan, left_of(frontier), demands(plan, gpus=gpus), gpus=gpus)


def slots_of(bundles, *, gpus):
    return sum(need.gpus if gpus else need.cpus for _, need in bundles)


class TestHowMuchIsOfUse:
    def test_of_the_papers_study_it_is_what_the_simulation_finds(self, paper):
        needs = demands(paper, gpus=True)
        frontier = Frontier(paper, (), {})
        slots = outlook_of(paper, frontier, gpus=True).useful_slots(frontier)

        def makespan(gpus):
            return simulate(
                paper, (), {"all": Occupancy(math.inf, gpus)}, lambda node: needs[node.stage],
                lambda node: node.work / needs[node.stage].gpus,
            ).makespan  # fmt: skip

        assert slots == 12
        assert makespan(slots) < 1.01 * makespan(200)
        assert makespan(slots - 2) > 1.1 * makespan(slots)

    @pytest.mark.parametrize("seed", range(3))
    def test_at_every_step_more_would_gain_little_and_less_would_lose(self, plan, seed):
        """Graham: on W/L slots no schedule is longer than 2 L; on fewer, W/slots is a bound."""
        needs, chance = demands(plan, gpus=False), random.Random(seed)
        frontier = Frontier(plan, (), {"one": Occupancy(3, 0)})
        outlook, first = outlook_of(plan, frontier, gpus=False), 0
        while not frontier.finished:
            running = [*frontier.running(), *frontier.start(lambda node: needs[node.stage])]
            left = {node.key for node in left_of(frontier)}
            slots = outlook_of(plan, frontier, gpus=False).useful_slots(frontier)
            assert outlook.useful_slots(frontier) == min(slots, first := first or slots)
            chain = longest_chain(plan, left)
            work = sum(plan.nodes[key].work for key in left)
            assert work / slots <= chain * 1.002 or slots == 1
            assert slots == 1 or work / (slots - 1) > chain
            node = running[chance.randrange(len(running))]
            outlook.ended(node)
            frontier.end(node.key, well=True)
        assert outlook.useful_slots(frontier) == 0
        assert outlook.bundles(frontier) == []

    def test_it_falls_as_work_does_and_is_never_more_than_what_runs_or_is_ready(self, paper):
        needs = demands(paper, gpus=True)
        frontier = Frontier(paper, (), {"all": Occupancy(1000, 12)})
        outlook, asked = outlook_of(paper, frontier, gpus=True), []
        while not frontier.finished:
            list(frontier.start(lambda node: needs[node.stage]))
            bundles = outlook.bundles(frontier)
            asked.append(slots_of(bundles, gpus=True))
            able = [*frontier.running(), *frontier.upcoming(10_000)]
            assert len(bundles) <= len(able)
            assert asked[-1] <= sum(needs[node.stage].gpus for node in able) + 1e-6
            node = frontier.running()[0]
            outlook.ended(node)
            frontier.end(node.key, well=True)
        assert asked[0] == max(asked) == 12
        assert asked[-1] <= 1

    def test_a_step_costs_the_same_however_much_waits(self, tiny_sweep):
        """The nodes that are looked at, counted."""
        looked = []
        for seeds in (10, 100):
            study = load_study(str(tiny_sweep), [f"axes.seed={list(range(seeds))}", "cka=false"])
            plan = make_plan(study)
            frontier = Frontier(plan, (), {"all": Occupancy(4, 0)})
            outlook = outlook_of(plan, frontier, gpus=False)
            list(frontier.start(lambda node: Occupancy(1, 0)))
            looked.append(len([*frontier.running(), *frontier.heaviest()]))
            assert outlook.bundles(frontier)
        assert looked[0] == looked[1]


def longest_chain(plan, left):
    ends = {}
    for key, node in plan.nodes.items():
        if key in left:
            ends[key] = node.work + max((ends.get(needed, 0) for needed in node.inputs), default=0)
    return max(ends.values())


CONFIGURATION = yaml.safe_load("""\
max_workers: 6
head_node_type: head
available_node_types:
  head: {resources: {CPU: 0}, max_workers: 0}
  l4: {resources: {CPU: 8, GPU: 1, memory: 34359738368}, max_workers: 4}
  t4: {resources: {CPU: 4, GPU: 1}, max_workers: 4}
  off: {resources: {CPU: 96, GPU: 8}, max_workers: 0}
""")


class TestWhatAClusterCouldHave:
    def test_its_configuration_tells(self):
        prospects = read_prospects(CONFIGURATION)
        assert prospects == Prospects(
            kinds=(
                MachineKind("l4", Machine(Occupancy(8, 1), 32 * GIB), 4),
                MachineKind("t4", Machine(Occupancy(4, 1), math.inf), 4),
            ),
            most=6,
            head=Machine(Occupancy(0, 0), math.inf),
        )

    def test_a_kind_that_does_not_say_what_it_offers_may_be_anything(self):
        local = {"local.cluster.node": {"resources": {}, "max_workers": 2}}
        prospects = read_prospects(
            {"available_node_types": local, "head_node_type": "local.cluster.node"}
        )
        assert prospects.untold
        assert prospects.within([ONE_GPU] * 99) == [ONE_GPU] * 99

    def test_no_more_is_asked_for_than_it_could_have_at_once(self):
        prospects = read_prospects(CONFIGURATION)
        assert len(prospects.within([ONE_GPU] * 100)) == 6
        assert (
            len(prospects.within([ONE_CORE] * 100)) == 4 * 4 + 2 * 8
        )  # by the smallest, as Ray may choose
        six_cores = {"CPU": 6.0, "GPU": 1.0}
        assert len(prospects.within([six_cores] * 100)) == 4
        assert prospects.within([{"CPU": 9.0}, ONE_GPU]) == [ONE_GPU]

    def test_shares_of_a_gpu_go_together(self):
        quarters = read_prospects(CONFIGURATION).within([{"CPU": 1.0, "GPU": 0.25}] * 100)
        assert len(quarters) == 6 * 4

    def test_what_fits_on_the_head_needs_no_other_machine(self):
        prospects = Prospects((), 0, Machine(Occupancy(2, 0), 0))
        assert prospects.within([ONE_CORE] * 5) == [ONE_CORE] * 2

    def test_whether_it_has_gpus_follows_from_what_it_could_have(self):
        kinds = read_prospects(CONFIGURATION).kinds
        head, plain = Machine(Occupancy(0, 0), GIB), Machine(Occupancy(4, 0), GIB)
        assert runs_on_gpus([head]) is None
        assert runs_on_gpus([head, plain]) is False
        assert runs_on_gpus([head, plain, *(kind.machine for kind in kinds)]) is True


class TestSeveralSweeps:
    def test_what_they_want_is_added_up(self):
        wishes = Wishes()
        wishes.want("one", [ONE_GPU], now=0)
        wishes.want("two", [ONE_CORE, ONE_CORE], now=5)
        assert wishes.standing(now=6) == [ONE_GPU, ONE_CORE, ONE_CORE]
        wishes.want("two", [ONE_CORE], now=7)
        assert wishes.standing(now=8) == [ONE_GPU, ONE_CORE]
        wishes.want("one", [], now=9)
        assert wishes.standing(now=9) == [ONE_CORE]

    def test_what_the_dead_wanted_is_taken_back(self):
        wishes = Wishes()
        wishes.want("dead", [ONE_GPU], now=0)
        wishes.want("alive", [ONE_CORE], now=0)
        wishes.want("alive", [ONE_CORE], now=SECONDS_KEPT)
        assert wishes.standing(now=SECONDS_KEPT + 1) == [ONE_CORE]


def test_a_bundle_is_what_ray_calls_resources():
    assert occupancy_of({"CPU": 2.0, "GPU": 0.25, "memory": 1.0}) == Occupancy(2, 0.25)
