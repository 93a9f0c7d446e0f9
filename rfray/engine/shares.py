"""What share of a card each node is given, and what follows where that was not enough. Pure.

A node is given its share when it is given a slot, not before: what is known of its kind by then,
and what it has failed with, is what counts.
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
        metered: Whether it tells what it takes of its card.
        remarks: What whoever reads its result should know of that.
    """

    occupancy: Occupancy
    halvings: int = 0
    metered: bool = False
    remarks: tuple[str, ...] = ()


class Shares:
    """The shares of a plan's nodes.

    Args:
        plan: The plan.
        usual: What a node occupies where nothing else is known of it.
    """

    def __init__(self, plan: Plan, usual: Callable[[Node], Occupancy]) -> None:
        self._usual = usual
        self._packed = {stage for stage in plan.study.stage_parameters() if _is_auto(plan, stage)}
        self._packing = Packing()
        self._again: dict[str, Grant] = {}

    def demand(self, node: Node) -> Occupancy:
        """What a node would occupy if it started now."""
        return self.grant(node).occupancy

    def grant(self, node: Node) -> Grant:
        """What a node is given if it starts now."""
        if node.key in self._again:
            return self._again[node.key]
        usual = self._usual(node)
        if not self._is_packed(node, usual):
            return Grant(usual)
        share = self._packing.share(node)
        return Grant(replace(usual, gpus=share), metered=not self._packing.knows(node))

    def measured(self, node: Node, use: CardUse) -> None:
        """Learn what a node takes of its card."""
        if node.stage in self._packed:
            self._packing.learn(node, use)

    def try_again(self, node: Node, had: Grant) -> bool:
        """Give a node more of a card, whose memory it has used up; False if there is no more.

        A whole card comes first, for it changes no number; then fewer images at a time, where the
        stage says that this changes nothing but rounding.
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
    """The job of a node as it is started with a grant."""
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
    """Of how many images a node holds graphs at a time, where it may be fewer; else None."""
    name = stages()[node.stage].micro_batch
    return int(getattr(node.parameters, name)) if name else None


def _is_auto(plan: Plan, stage: str) -> bool:
    return plan.study.request(stage).gpus == AUTO


def _widened(before: float, after: float) -> str:
    what = "a whole GPU" if after == WHOLE else f"{after:.3g} of one"
    return f"The GPU's memory was used up on a share of {before:.3g}: done on {what} instead."


def _fewer(images: int, planned: int) -> str:
    return (
        f"The GPU's memory was used up: done with {images} images at a time instead of {planned}, "
        "which changes nothing but rounding."
    )
