"""The runs of a plan in the ledger: nodes that are done, runs to resume, runs to reuse. Pure."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from rfray.device.hardware import on_device, recorded_precision
from rfray.engine.assemble import demands
from rfray.plan import Node, Plan
from rfray.tracking import DIGEST_TAG, KEY_TAG, SUPERSEDED_TAG, Elsewhere, RunRecord, withheld_of

Search = Callable[[Collection[str]], dict[str, Elsewhere]]
"""Finds finished runs of other studies by their keys."""


@dataclass(frozen=True)
class Standing:
    """The state of a plan in the ledger.

    Attributes:
        finished: The FINISHED run of each node that has one; the latest one if several.
        unfinished: For other nodes, the latest run if there is one: RUNNING (its driver may have
            died), FAILED, KILLED, or to be computed `again`.
        strays: Other RUNNING runs: those of nodes that are not in the plan, and those whose node
            has a newer run.
        again: Keys of finished runs that must be computed again: a missing node reads artifacts
            that `rfray clean` deleted, or that were not in the imported archive.
        redone: Keys of runs that `rfray redo` superseded.
        outside: Keys of finished runs of the study that are not in the plan.
    """

    finished: Mapping[str, RunRecord]
    unfinished: Mapping[str, RunRecord]
    strays: tuple[RunRecord, ...]
    again: tuple[str, ...] = ()
    redone: frozenset[str] = frozenset()
    outside: frozenset[str] = frozenset()


def standing(plan: Plan, runs: Iterable[RunRecord]) -> Standing:
    """The standing of `plan`, from the runs of its study, oldest first."""
    finished: dict[str, RunRecord] = {}
    unfinished: dict[str, RunRecord] = {}
    running: list[RunRecord] = []
    redone: set[str] = set()
    outside: set[str] = set()
    for run in runs:
        key = run.tags.get(KEY_TAG, "")
        if run.tags.get(SUPERSEDED_TAG):
            redone.add(key)
            continue
        if key and run.status == "RUNNING":
            running.append(run)
        if key in plan.nodes:
            (finished if run.status == "FINISHED" else unfinished)[key] = run
        elif run.status == "FINISHED":
            outside.add(key)
    left = {key: run for key, run in unfinished.items() if key not in finished}
    taken_up = {run.run_id for run in left.values()}
    strays = tuple(run for run in running if run.run_id not in taken_up)
    lacking = {key for key, run in finished.items() if withheld_of(run)}
    again = needed_again(plan, finished, lacking) if lacking else []
    left |= {key: finished.pop(key) for key in again}
    return Standing(
        finished, left, strays, tuple(again), redone=frozenset(redone), outside=frozenset(outside)
    )


def needed_again(plan: Plan, finished: Collection[str], lacking: Collection[str]) -> list[str]:
    """Keys of the finished nodes to compute again, in the order of the plan.

    They lack artifacts that a missing node reads, or a node that is computed again.
    """
    again: set[str] = set()
    readers = plan.dependents()
    for key in reversed(list(plan.nodes)):
        unmet = any(one not in finished or one in again for one in readers[key])
        if key in lacking and unmet:
            again.add(key)
    return [key for key in plan.nodes if key in again]


def left_over(plan: Plan, runs: Iterable[RunRecord]) -> list[RunRecord]:
    """The study's finished runs that the plan does not name, for example after an edit of its file.

    Not among them: runs without a key, which other programs wrote, and superseded runs.
    """
    finished = [run for run in runs if run.status == "FINISHED" and run.tags.get(KEY_TAG)]
    return [
        run
        for run in finished
        if run.tags[KEY_TAG] not in plan.nodes and not run.tags.get(SUPERSEDED_TAG)
    ]


def other_precision(plan: Plan, stands: Standing, *, gpus: bool) -> str:
    """A warning if missing runs will have another precision than finished runs of their stage.

    A sentence; empty if the precision of each stage stays the same. `gpus` is whether there are
    GPUs now.
    """
    needs = demands(plan, gpus=gpus)
    before, to_come = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for key, node in plan.nodes.items():
        run = stands.finished.get(key)
        if run is not None:
            found = recorded_precision(run.params, run.tags.get("rfray.hardware", ""))
            before[node.stage].update(filter(None, [found]))
        elif "precision" in node.params:
            device: Literal["cpu", "cuda"] = "cuda" if needs[node.stage].gpus > 0 else "cpu"
            to_come[node.stage].add(on_device(node.params["precision"], device))
    mixed = {
        stage: (before[stage], coming)
        for stage, coming in to_come.items()
        if stage in before and coming - before[stage]
    }
    if not mixed:
        return ""
    stage, (was, coming) = next(iter(mixed.items()))
    return (
        f"finished runs of {' and '.join(mixed)} were computed in {' and '.join(sorted(was))}, "
        f"the missing ones will be in {' and '.join(sorted(coming))}: precision auto depends on "
        f"the machine. Tables will mark them. For the same precision in all runs, set "
        f"{stage}.precision; then they are computed again"
    )


def reusable(plan: Plan, stands: Standing, search: Search) -> dict[str, Elsewhere]:
    """The runs that a study can reuse, by key, each after the runs that it reads.

    `search` is called only if something is missing. Not reused are: runs that `rfray redo` asked
    for, and runs that read a run which is neither done nor reused. A run below a training is reused
    only if the weights of the training have the same bits here and there. (Trainings with the same
    key on two GPUs may differ.)
    """
    passed_over = {*stands.finished, *stands.redone}
    wanted = [key for key in plan.nodes if key not in passed_over]
    found = search(frozenset(wanted)) if wanted else {}
    there, taken = set(stands.finished), dict[str, Elsewhere]()
    for key in wanted:
        node, source = plan.nodes[key], found.get(key)
        if source is None or not there.issuperset(node.inputs):
            continue
        if _under_the_same(node, source, stands, taken):
            there.add(key)
            taken[key] = source
    return taken


def _under_the_same(
    node: Node, source: Elsewhere, stands: Standing, taken: Mapping[str, Elsewhere]
) -> bool:
    """Whether the parent runs here and there have the same artifacts, if both are recorded."""
    if node.parent is None:
        return True
    above = taken[node.parent].run if node.parent in taken else stands.finished[node.parent]
    digests = {above.tags.get(DIGEST_TAG, ""), source.parent_digest} - {""}
    return len(digests) < 2


def taken_words(taken: Mapping[str, int]) -> str:
    """How many runs are reused, and from which studies, in words."""
    told = ", ".join(
        f"{count} {'run' if count == 1 else 'runs'} from {study}" for study, count in taken.items()
    )
    return f"reuses {told}"
