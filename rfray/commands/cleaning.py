"""Which files of a study may be deleted: decisions on plain data. Numbers always stay."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rfray.plan import Plan
from rfray.study.naming import TRAIN

Kind = Literal["weights", "weights superseded", "weights left over", "checkpoint"]


@dataclass(frozen=True)
class Disposable:
    """Files that may be deleted.

    Attributes:
        kind: What they are. `superseded`: weights of runs that `rfray redo` replaced; `left over`:
            weights of runs that the plan does not name.
        run_id: The run that the files belong to; empty for a checkpoint.
        paths: The files; for a checkpoint, its folder.
        bytes: Bytes that deleting them frees.
        withheld: All artifacts that the run lacks after that.
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

    Every node that reads them is finished, and no weights that stay are stored as changes of them.

    Args:
        plan: The plan.
        finished: Keys of nodes that are done and need not be computed again.
        holding: Keys of the nodes whose run has weights.
        keep: Stages whose weights stay.
        bases: Keys of nodes with weights that runs outside the plan are stored as changes of.
    """
    readers = plan.dependents()
    staying = set(bases)
    droppable = []
    # Backwards: the readers of a node are decided before the node.
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
    """Keys of the checkpoints that no training will continue from.

    Args:
        found: Keys with a checkpoint in the storage folder, which studies share.
        ended: Keys of this study's finished trainings, and of those that its plan does not name.
        needed: Keys of trainings that some study may still continue.
    """
    return [key for key in found if key in ended and key not in needed]


def cleaning_json(study: str, disposable: Iterable[Disposable]) -> dict[str, Any]:
    """The list as JSON-ready data: `study`, `files`, `bytes`."""
    names = ("kind", "name", "stage", "bytes")
    files = [{name: getattr(one, name) for name in names} for one in disposable]
    return {"study": study, "files": files, "bytes": sum(one["bytes"] for one in files)}
