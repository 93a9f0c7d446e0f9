"""Runs of other studies in the same store that a study can reuse. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from rfray.engine.standing import Standing
from rfray.plan import Node, Plan
from rfray.tracking import DIGEST_TAG, Elsewhere

Search = Callable[[Collection[str]], dict[str, Elsewhere]]
"""Finds finished runs of other studies by their keys."""


def reusable(plan: Plan, stands: Standing, search: Search) -> dict[str, Elsewhere]:
    """The runs that a study can reuse, by key, each after the runs that it reads.

    Not reused are: runs that `rfray redo` asked for, and runs that read a run which is neither
    done nor reused. A run below a training is reused only if the weights of the training have the
    same bits here and there. (Trainings with the same key on two GPUs may differ.)

    Args:
        plan: The study's plan.
        stands: Which of it is done.
        search: Called only if something is missing.
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
