"""How far each cell of a study has its knob turned: from what was asked for to a cell. Pure."""

from __future__ import annotations

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
    """A knob of one network, and what the study has it turned to.

    Attributes:
        dataset: Whose images the network sees.
        arch: The network.
        knob: The knob that the study names.
        asked: What the study says: a strength, or a receptive field in pixels.
        by_field: Whether that is a receptive field.
        cell: A cell with it, of any seed and width.
    """

    dataset: str
    arch: str
    knob: str
    asked: int
    by_field: bool
    cell: Cell

    @property
    def geometry(self) -> Geometry | None:
        """What the network is with its knob turned so far; None if it cannot be read."""
        return geometry_if_read(self.cell)

    @property
    def misses(self) -> bool:
        """Whether no strength comes near the receptive field that was asked for."""
        return self.by_field and misses(self.cell.geometry.receptive_field, self.asked)


def cell_at(choices: Mapping[str, Any], validation: Amount | None, layers: Sequence[str]) -> Cell:
    """The cell for some choices of the cell's settings, with its knob turned.

    A cell is told by its network: where a knob turned so far changes nothing, it is the cell
    without a pool, whatever the knob, and what was asked for does not enter it.

    Args:
        choices: Values of settings by name, among them at most one of `TURNS`.
        validation: What is held out of the training images.
        layers: What the knob `dilation` turns.

    Raises:
        UserError: The knob cannot be turned so far.
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
    """What a cell's knob is turned to, in its own unit."""
    if choices.get(ASKED) is not None:
        whichever_seed = base.model_copy(update={"seed": 0})
        return _nearest(whichever_seed, name, knob_code(name), layers, choices[ASKED])
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


def turns_knobs(study: Study) -> bool:
    """Whether a study says more of its networks than the kernel of their pool."""
    named = {*study.grid.names, *(study.grid.usual or {})}
    return bool(named & {"knob", "strength", ASKED})


def turns(study: Study, points: Iterable[Point]) -> tuple[Turn, ...]:
    """Every turn of a knob in a study; none where it only names kernel sizes."""
    if not turns_knobs(study):
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
    """What each knob was turned to, JSON-ready: nothing where the study only names kernel sizes.

    By data set, network, knob and what was asked for, `[knob, strength]` of the network: the runs
    hold these, for one network may be what several knobs come to.
    """
    document: dict[str, Any] = {}
    for turn in made:
        knobs = document.setdefault(turn.dataset, {}).setdefault(turn.arch, {})
        knobs.setdefault(turn.knob, {})[str(turn.asked)] = list(turn.cell.turned)
    return {"turned": document} if document else {}


def turning_params(cell: Cell) -> dict[str, Any]:
    """What runs of a study that turns knobs say besides: how far, and the last map it leaves."""
    name, strength = cell.turned
    shape = geometry_if_read(cell)
    last_map = {} if shape is None else {"map_size": shape.last_convolution.map_size}
    return {"knob": name, "strength": strength, **last_map}


def turning_findings(made: Sequence[Turn]) -> Iterator[str]:
    """Knobs that come nowhere near what was asked of them, and those that come to one network."""
    for turn in made:
        if turn.misses:
            reached = turn.cell.geometry.receptive_field
            yield (
                f"{turn.arch} on {turn.dataset}: the knob '{turn.knob}' comes no nearer to a "
                f"receptive field of {turn.asked} than {reached} ({turn.cell.turned_words}), "
                f"{reached / turn.asked - 1:+.0%}"
            )
    same: dict[tuple[str, Cell], list[Turn]] = {}
    for turn in made:
        same.setdefault((turn.dataset, turn.cell), []).append(turn)
    for (dataset, cell), those in same.items():
        if len(those) > 1:
            who = ", ".join(f"{turn.knob} at {turn.asked}" for turn in those)
            yield (
                f"{cell.arch} on {dataset}: {who} are one network ({cell.turned_words}), which is "
                "trained once and stands for each"
            )


def refuse_unmatched(study: Study, points: Iterable[Point]) -> None:
    """UserError if a pattern of `knobs.dilation.layers` names nothing in any network.

    Or if one of the networks that are dilated has none of what they name.
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
