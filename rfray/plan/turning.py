"""How far each knob is turned: from the study's settings to cells. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from rfray.cell import Cell
from rfray.data.amount import Amount
from rfray.errors import UserError
from rfray.grid import Point, hashable
from rfray.models.geometry import Geometry
from rfray.models.knobs import (
    DILATION,
    POOL,
    chosen_convolutions,
    knob,
    knob_code,
    naming_nothing,
    turned,
)
from rfray.models.matching import misses, nearest_strength
from rfray.models.stem import NO_POOL
from rfray.plan.unread import geometry_if_read
from rfray.study import Study
from rfray.study.settings import ASKED, TURNS

_OF_A_TURN = ("dataset", "arch", "knob", *TURNS)


@dataclass(frozen=True)
class Turn:
    """How far one knob of one network is turned.

    Attributes:
        knob: The knob that the study names.
        asked: What the study asks for: a strength, or a receptive field in pixels.
        by_field: Whether it asks for a receptive field.
        cell: A cell with the knob turned, of any seed and width.
    """

    dataset: str
    arch: str
    knob: str
    asked: int
    by_field: bool
    cell: Cell

    @property
    def geometry(self) -> Geometry | None:
        """Geometry of the network with its knob turned; None if the network cannot be read."""
        return geometry_if_read(self.cell)

    @property
    def misses(self) -> bool:
        """Whether no strength comes near the receptive field asked for."""
        return self.by_field and misses(self.cell.geometry.receptive_field, self.asked)


def cell_at(choices: Mapping[str, Any], validation: Amount | None, layers: Sequence[str]) -> Cell:
    """The cell for some values of the cell's settings, with its knob turned.

    Equal networks give equal cells: if the knob at this strength changes nothing, the result is
    the cell without a pool, whatever the knob. What was asked for is not part of the cell.

    Args:
        choices: Values of settings by name, with at most one of `TURNS`.
        validation: What is held out of the training images.
        layers: The layers that the knob `dilation` turns.

    Raises:
        UserError: The knob cannot be turned that far.
    """
    plain = {n: v for n, v in choices.items() if n not in (*TURNS, "knob") and v is not None}
    base = Cell(**plain, validation=validation)
    name, chosen = choices.get("knob", POOL), tuple(layers)
    strength = _strength(base, name, choices, chosen)
    if name == POOL and strength >= NO_POOL:
        return base.model_copy(update={"kernel_size": strength})
    if turned(name, base.network, strength, chosen).layers == base.network.layers:
        return base
    own = {"knob": name, "strength": strength, "layers": chosen if name == DILATION else ()}
    return base.model_copy(update=own)


def _strength(base: Cell, name: str, choices: Mapping[str, Any], layers: tuple[str, ...]) -> int:
    """The strength of a cell's knob, in the knob's own unit."""
    if choices.get(ASKED) is not None:
        # The result does not depend on the seed, so it is computed once for all seeds.
        any_seed = base.model_copy(update={"seed": 0})
        return _nearest(any_seed, name, knob_code(name), layers, choices[ASKED])
    strength = choices.get("strength")
    given: int = choices.get("kernel_size", NO_POOL) if strength is None else strength
    return given


@cache
def _nearest(base: Cell, name: str, _code: str, layers: tuple[str, ...], asked: int) -> int:
    size, network = base.facts.image_size, base.network
    strengths = knob(name).strengths(network, size)
    return nearest_strength(
        cache(lambda strength: turned(name, network, strength, layers)), strengths, size, asked
    )


def turns(study: Study, points: Iterable[Point]) -> tuple[Turn, ...]:
    """Every turn of a knob in a study; none if it only names kernel sizes."""
    if not {"knob", "strength", ASKED} & {*study.grid.names, *(study.grid.usual or {})}:
        return ()
    found: dict[tuple[Any, ...], Turn] = {}
    for point in points:
        choices = {name: point[name] for name in _OF_A_TURN if point.get(name) is not None}
        which = tuple(map(hashable, choices.values()))
        if which not in found:
            found[which] = _turn(choices, point, study)
    return tuple(found.values())


def _turn(choices: Mapping[str, Any], point: Point, study: Study) -> Turn:
    whole = {**choices, "seed": 0, "width": point.get("width", 1.0)}
    named = next(name for name in reversed(TURNS) if name in choices)
    return Turn(
        dataset=choices["dataset"],
        arch=choices["arch"],
        knob=choices.get("knob", POOL),
        asked=choices[named],
        by_field=named == ASKED,
        cell=cell_at(whole, study.data.validation, study.dilated),
    )


def turned_document(made: Iterable[Turn]) -> dict[str, Any]:
    """How far each knob was turned, JSON-ready; nothing if the study only names kernel sizes.

    By data set, network, knob and what was asked for: `[knob, strength]` of the network. Runs have
    these two as params. Several knobs may give the same network.
    """
    document: dict[str, Any] = {}
    for turn in made:
        knobs = document.setdefault(turn.dataset, {}).setdefault(turn.arch, {})
        knobs.setdefault(turn.knob, {})[str(turn.asked)] = list(turn.cell.turned)
    return {"turned": document} if document else {}


def turning_findings(made: Sequence[Turn]) -> Iterator[str]:
    """Knobs that do not come near what was asked for, and knobs that give the same network."""
    for turn in made:
        if turn.misses:
            reached = turn.cell.geometry.receptive_field
            yield (
                f"{turn.arch} on {turn.dataset}: asked for a receptive field of {turn.asked}, the "
                f"nearest that the knob '{turn.knob}' reaches is {reached} "
                f"({turn.cell.turned_words}), {reached / turn.asked - 1:+.0%}"
            )
    same: dict[tuple[str, Cell], list[Turn]] = {}
    for turn in made:
        same.setdefault((turn.dataset, turn.cell), []).append(turn)
    for (dataset, cell), those in same.items():
        if len(those) > 1:
            who = ", ".join(f"{turn.knob} at {turn.asked}" for turn in those)
            yield (
                f"{cell.arch} on {dataset}: {who} are the same network ({cell.turned_words}), "
                "which is trained once for all of them"
            )


def refuse_unmatched(study: Study, points: Iterable[Point]) -> None:
    """UserError if a pattern of `knobs.dilation.layers` matches no layer of any network.

    Also if a network with that knob has no layer that any pattern matches.
    """
    if not study.dilated:
        return
    where = f"{study.name}: knobs.dilation.layers"
    bases = {
        point["arch"]: Cell(dataset=point["dataset"], arch=point["arch"], seed=0).base
        for point in points
        if point.get("knob") == DILATION
    }
    problem = naming_nothing(study.dilated, list(bases.values()))
    if problem is not None:
        raise UserError(problem, where=where)
    for arch, base in bases.items():
        try:
            chosen_convolutions(base, study.dilated)
        except UserError as error:
            what = error.what.replace("the network", arch)
            raise UserError(what, where=where, do=error.do) from error
