"""What another study of the same store has done already. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from rfray.engine.standing import Standing
from rfray.plan import Node, Plan
from rfray.tracking import DIGEST_TAG, Elsewhere

Search = Callable[[Collection[str]], dict[str, Elsewhere]]
"""Finds finished runs of other studies by their keys."""


def reusable(plan: Plan, stands: Standing, search: Search) -> dict[str, Elsewhere]:
    """What a study need not compute, by key, each behind what it reads.

    A run that `rfray redo` asked for anew is computed anew, and so is what reads it; what reads a
    run that is not there is computed behind it. What stands under a training run that has other
    bits here, as two GPUs leave them, is not of this one.

    Args:
        plan: Of the study.
        stands: What it has done itself.
        search: Asked only if something is to be found.
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
    """Whether the run above it is the same here and there, as far as the two are known."""
    if node.parent is None:
        return True
    above = taken[node.parent].run if node.parent in taken else stands.finished[node.parent]
    digests = {above.tags.get(DIGEST_TAG, ""), source.parent_digest} - {""}
    return len(digests) < 2


def taken_words(taken: Mapping[str, int]) -> str:
    """How many runs are reused from which studies, in words."""
    told = ", ".join(
        f"{count} {'run' if count == 1 else 'runs'} from {study}" for study, count in taken.items()
    )
    return f"reuses {told}"
