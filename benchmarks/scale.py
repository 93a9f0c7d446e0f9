"""python benchmarks/scale.py: one study on hundreds of machines, in imagined time.

The driver's own frontier works the paper's study off on nodes of four GPUs each: how long the
study takes there, how much of the GPUs is in use, and how long deciding takes for one run. A stage
takes as long as its operations say. The curve shows what more nodes bring.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from growth import PAPER_NETWORKS, seeds
from side_by_side import print_and_write, versions

from rfray.engine.assemble import demands
from rfray.engine.places import Occupancy
from rfray.engine.simulation import Schedule, simulate
from rfray.plan import Node, Plan, make_plan
from rfray.study.sweep_file import load_study

mpl.use("agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).parent / "results"
RESULTS = FOLDER / "scale.md"
CURVE = FOLDER / "scale.png"
NODE = Occupancy(cpus=32, gpus=4)
OPERATIONS_A_SECOND = 3e12


@dataclass(frozen=True)
class Simulated:
    """A study on so many nodes.

    Attributes:
        nodes: How many.
        schedule: What it took in imagined time.
        deciding: Seconds of this process for one run.
    """

    nodes: int
    schedule: Schedule
    deciding: float


def paper_plan(networks: int) -> Plan:
    return make_plan(load_study("paper", [seeds(networks // PAPER_NETWORKS)]))


def simulated(plan: Plan, nodes: int) -> Simulated:
    needs = demands(plan, gpus=True)

    def seconds(node: Node) -> float:
        return max(1.0, node.work / (OPERATIONS_A_SECOND * min(1.0, needs[node.stage].gpus or 1.0)))

    began = time.process_time()
    machines = {f"node{number}": NODE for number in range(nodes)}
    schedule = simulate(plan, (), machines, lambda node: needs[node.stage], seconds)
    return Simulated(nodes, schedule, (time.process_time() - began) / len(plan.nodes))


def draw(found: list[Simulated], runs: int) -> None:
    nodes = [one.nodes for one in found]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    first = found[0]
    left.plot(nodes, [one.schedule.makespan / 3600 for one in found], "o-", label="simulated")
    ideal = [first.schedule.makespan / 3600 * first.nodes / count for count in nodes]
    left.plot(nodes, ideal, ":", color="0.5", label="in proportion to the nodes")
    left.set(xscale="log", yscale="log", xlabel="nodes of 4 GPUs", ylabel="hours for the study")
    left.legend(frameon=False)
    right.plot(nodes, [1000 * one.deciding for one in found], "o-")
    right.set(xscale="log", xlabel="nodes of 4 GPUs", ylabel="ms to decide, a run")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xticks(nodes, [str(count) for count in nodes])
        axes.minorticks_off()
    figure.suptitle(f"{runs:,} runs")
    figure.savefig(CURVE, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    options = parser.parse_args()
    plan = paper_plan(options.networks)
    found = []
    for nodes in options.nodes:
        found.append(simulated(plan, nodes))
        print(nodes, f"{1000 * found[-1].deciding:.2f} ms a run", flush=True)
    draw(found, len(plan.nodes))
    print_and_write(
        RESULTS,
        "# A study on many machines, simulated",
        f"`python benchmarks/scale.py`: {options.networks:,} networks, {len(plan.nodes):,} runs, "
        f"on nodes of 4 GPUs; {versions()}, {os.cpu_count()} cores. Deciding is processor time.",
        ["nodes", "hours", "GPUs in use", "deciding, ms a run"],
        [
            [
                str(one.nodes),
                f"{one.schedule.makespan / 3600:.1f}",
                f"{one.schedule.utilisation:.1%}",
                f"{1000 * one.deciding:.2f}",
            ]
            for one in found
        ],
        f"![Hours for the study and time to decide, by nodes]({CURVE.name})",
    )


if __name__ == "__main__":
    main()
