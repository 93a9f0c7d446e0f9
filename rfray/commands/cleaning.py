"""What of a study's files may go: decisions on plain data. Numbers are none of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rfray.plan import Plan
from rfray.study.naming import TRAIN

Kind = Literal["weights", "weights superseded", "weights left over", "checkpoint"]


@dataclass(frozen=True)
class Disposable:
    """Files that may go.

    Attributes:
        kind: What they are; `superseded` are weights of runs that `rfray redo` had computed anew,
            `left over` those of runs that the plan does not name.
        name: The run's name; a checkpoint's key where there is no run any more.
        stage: The run's stage.
        run_id: The run whose files they are; empty for a checkpoint.
        paths: The files, or the one folder.
        bytes: How much room comes free.
        withheld: What the run lacks once they are gone.
    """

    kind: Kind
    name: str
    stage: str
    run_id: str
    paths: tuple[Path, ...]
    bytes: int
    withheld: frozenset[str] = frozenset()


def droppable_weights(
    plan: Plan,
    finished: Collection[str],
    holding: Collection[str],
    keep: Collection[str],
    bases: Collection[str] = (),
) -> list[str]:
    """Keys of the nodes whose weights nothing in the plan needs any more.

    Every node that reads them is finished, and no weights that stay are kept as what changed from
    them.

    Args:
        plan: The plan.
        finished: Keys of what is done and need not be computed again.
        holding: Keys of the nodes whose run holds weights.
        keep: Stages whose weights stay.
        bases: Keys of nodes from whose weights others tell what changed that are not the plan's.
    """
    readers = plan.dependents()
    staying = set(bases)
    droppable = []
    # From the ends of the graph: what is read last is decided first.
    for key in reversed(list(plan.nodes)):
        if key not in holding:
            continue
        node = plan.nodes[key]
        unneeded = key in finished and all(reader in finished for reader in readers[key])
        if unneeded and node.stage not in keep and key not in staying:
            droppable.append(key)
        else:
            staying.update(read for read in node.inputs if plan.nodes[read].stage == TRAIN)
    return droppable[::-1]


def droppable_checkpoints(
    found: Iterable[str], ended: Collection[str], needed: Collection[str]
) -> list[str]:
    """Keys of the checkpoints from which nothing will go on.

    Args:
        found: Keys that have one in the storage folder, which studies share.
        ended: Keys of this study whose training is finished, or that its plan no longer names.
        needed: Keys that some study may still go on with.
    """
    return [key for key in found if key in ended and key not in needed]


def cleaning_json(study: str, disposable: Iterable[Disposable]) -> dict[str, Any]:
    """The list as JSON-ready data: `study`, `files`, `bytes`."""
    files = [
        {"kind": one.kind, "name": one.name, "stage": one.stage, "bytes": one.bytes}
        for one in disposable
    ]
    return {"study": study, "files": files, "bytes": sum(int(str(one["bytes"])) for one in files)}
