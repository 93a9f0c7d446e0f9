"""The share of a card for each node, and a larger one if its memory was not enough. Pure.

The share is chosen when the node gets its slot. It depends on what is known about cells of its kind
by then, and on earlier attempts of the node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rfray.engine.job import CardUse, Job
from rfray.engine.packing import Packing
from rfray.engine.places import Occupancy
from rfray.plan import Node, Plan
from rfray.stages.registry import stages
from rfray.study import AUTO

WHOLE = 1.0


@dataclass(frozen=True)
class Grant:
    """What a node is started with.

    Attributes:
        occupancy: What it occupies.
        halvings: How often its micro-batch is halved.
        metered: Whether to measure what it uses of its card.
        remarks: Sentences about this for the reader of its result.
    """

    occupancy: Occupancy
    halvings: int = 0
    metered: bool = False
    remarks: tuple[str, ...] = ()


class Shares:
    """The shares of a plan's nodes.

    Args:
        plan: The plan.
        usual: What a node occupies if nothing else is known.
    """

    def __init__(self, plan: Plan, usual: Callable[[Node], Occupancy]) -> None:
        self._usual = usual
        study = plan.study
        self._packed = {s for s in study.stage_parameters() if study.request(s).gpus == AUTO}
        self._packing = Packing()
        self._again: dict[str, Grant] = {}

    def demand(self, node: Node) -> Occupancy:
        """What a node would occupy if it started now."""
        return self.grant(node).occupancy

    def grant(self, node: Node) -> Grant:
        """What a node would be started with now."""
        if node.key in self._again:
            return self._again[node.key]
        usual = self._usual(node)
        if not self._is_packed(node, usual):
            return Grant(usual)
        share = self._packing.share(node)
        return Grant(replace(usual, gpus=share), metered=not self._packing.knows(node))

    def measured(self, node: Node, use: CardUse) -> None:
        """Learn from what a node uses of its card."""
        if node.stage in self._packed:
            self._packing.learn(node, use)

    def try_again(self, node: Node, had: Grant) -> bool:
        """Give a node more memory of a card after its memory was used up; False if not possible.

        First it gets a whole card, which changes no number. Then it computes fewer images at a
        time, if the stage says that this changes only rounding.
        """
        more = self._more(node, had)
        if more is not None:
            self._again[node.key] = more
        return more is not None

    def _more(self, node: Node, had: Grant) -> Grant | None:
        share = had.occupancy.gpus
        if share == 0:
            return None
        if share < WHOLE:
            wider = WHOLE
            if self._is_packed(node, self._usual(node)):
                self._packing.halve(node, share)
                wider = self._packing.share(node)
            return replace(
                had,
                occupancy=replace(had.occupancy, gpus=wider),
                remarks=(*had.remarks, _widened(share, wider)),
            )
        images = micro_batch(node)
        if images is None or images >> (had.halvings + 1) == 0:
            return None
        fewer = images >> (had.halvings + 1)
        return replace(
            had, halvings=had.halvings + 1, remarks=(*had.remarks, _fewer(fewer, images))
        )

    def _is_packed(self, node: Node, usual: Occupancy) -> bool:
        return node.stage in self._packed and usual.gpus > 0


def granted(job: Job, node: Node, grant: Grant) -> Job:
    """The job of a node, started with a grant."""
    parameters = dict(job.parameters)
    name = stages()[node.stage].micro_batch
    if name is not None and grant.halvings:
        parameters[name] >>= grant.halvings
    return job.model_copy(
        update={
            "parameters": parameters,
            "share": min(WHOLE, grant.occupancy.gpus) or WHOLE,
            "processes": max(1, int(grant.occupancy.gpus)),
            "metered": grant.metered,
            "remarks": list(grant.remarks),
        }
    )


def micro_batch(node: Node) -> int | None:
    """The number of images that a node computes at a time, if it may be reduced; else None."""
    name = stages()[node.stage].micro_batch
    return int(getattr(node.parameters, name)) if name else None


def _widened(before: float, after: float) -> str:
    what = "a whole GPU" if after == WHOLE else f"{after:.3g} of one"
    return f"The GPU's memory was used up on a share of {before:.3g}: computed on {what} instead."


def _fewer(images: int, planned: int) -> str:
    return (
        f"The GPU's memory was used up: computed {images} images at a time instead of {planned}, "
        "which changes only rounding."
    )
