"""What the ledger already holds of a plan: nodes that are done, runs to take up again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from rfray.device.precision import on_device, recorded_precision
from rfray.engine.assemble import demands
from rfray.plan import Plan
from rfray.tracking import KEY_TAG, SUPERSEDED_TAG, RunRecord, withheld_of


@dataclass(frozen=True)
class Standing:
    """How far a plan has come.

    Attributes:
        finished: The FINISHED run of each node that has one (the latest, were there several).
        unfinished: The latest run of each other node that has one: RUNNING (its driver may have
            died), FAILED or KILLED, or to be computed `again`.
        again: Keys among those whose run was finished, but a node that is missing reads what is
            withheld of it: `rfray clean` dropped it, or its archive did not hold it.
        strays: Other RUNNING runs: of nodes that the plan does not hold, and those that another run
            of the same node has overtaken.
        redone: Keys of what `rfray redo` had superseded.
        outside: Keys of finished runs of the study that the plan does not hold.
    """

    finished: Mapping[str, RunRecord]
    unfinished: Mapping[str, RunRecord]
    strays: tuple[RunRecord, ...]
    again: tuple[str, ...] = ()
    redone: frozenset[str] = frozenset()
    outside: frozenset[str] = frozenset()


def standing(plan: Plan, runs: Iterable[RunRecord]) -> Standing:
    """Sort the runs of a study, oldest first, by what they mean for `plan`."""
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

    What they lack is read by a node that is missing, or by one to compute again.
    """
    again: set[str] = set()
    readers = plan.dependents()
    for key in reversed(list(plan.nodes)):
        unmet = any(one not in finished or one in again for one in readers[key])
        if key in lacking and unmet:
            again.add(key)
    return [key for key in plan.nodes if key in again]


def left_over(plan: Plan, runs: Iterable[RunRecord]) -> list[RunRecord]:
    """The study's finished runs that the plan does not name, as an edited sweep file leaves them.

    Runs without a key are another program's; those that `rfray redo` had superseded are not meant.
    """
    finished = [run for run in runs if run.status == "FINISHED" and run.tags.get(KEY_TAG)]
    return [
        run
        for run in finished
        if run.tags[KEY_TAG] not in plan.nodes and not run.tags.get(SUPERSEDED_TAG)
    ]


def other_precision(plan: Plan, stands: Standing, *, gpus: bool) -> str:
    """That missing runs will be computed in another precision than finished ones of their stage.

    Args:
        plan: The plan.
        stands: What is finished of it.
        gpus: Whether there are GPUs to run on by now.

    Returns:
        A sentence; empty where all are computed in one.
    """
    needs = demands(plan, gpus=gpus)
    before: dict[str, set[str]] = {}
    to_come: dict[str, set[str]] = {}
    for key, node in plan.nodes.items():
        run = stands.finished.get(key)
        if run is not None:
            found = recorded_precision(run.params, run.tags.get("rfray.hardware", ""))
            before.setdefault(node.stage, set()).update(filter(None, [found]))
        elif "precision" in node.params:
            will_be = on_device(
                node.params["precision"], "cuda" if needs[node.stage].gpus > 0 else "cpu"
            )
            to_come.setdefault(node.stage, set()).add(will_be)
    mixed = {
        stage: (before[stage], coming)
        for stage, coming in to_come.items()
        if before.get(stage, coming) and coming - before.get(stage, coming)
    }
    if not mixed:
        return ""
    stage, (was, coming) = next(iter(mixed.items()))
    return (
        f"finished runs of {' and '.join(mixed)} were computed in {' and '.join(sorted(was))}, "
        f"those to come will be in {' and '.join(sorted(coming))}: precision auto goes by the "
        f"machine, and tables will say which is which. For one precision in all, give "
        f"{stage}.precision, which computes them anew"
    )
