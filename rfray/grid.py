"""A study's grid: the combinations of its axes, and the rules of `exclude` and `when`. Pure.

The study document in MLflow holds the grid as the user wrote it. The analysis expands it with the
same functions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

Point = Mapping[str, Any]
"""A value for each axis and for each setting that `when` sets, by its dotted name."""

Place = tuple[tuple[str, Any], ...]
"""Some settings of a point with their values. Hashable: lists are tuples."""

Condition = Mapping[str, Sequence[Any]]
"""Settings with values. A point matches if it has one of the values of every setting."""


@dataclass(frozen=True)
class When:
    """The points that match `condition` get `settings`."""

    condition: Condition
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Grid:
    """What varies in a study.

    Attributes:
        axes: The values of each axis. All axes are combined with each other.
        zipped: The points of one more axis, which sets several settings together.
        excluded: Conditions of the points to leave out.
        when: Other settings for some points.
        usual: For each setting that `when` sets, its value at all other points.
    """

    axes: Mapping[str, Sequence[Any]]
    zipped: Sequence[Mapping[str, Any]] = ()
    excluded: Sequence[Condition] = ()
    when: Sequence[When] = ()
    usual: Mapping[str, Any] | None = None

    @property
    def names(self) -> frozenset[str]:
        """The settings that are axes, zipped ones included."""
        return frozenset((*self.axes, *(name for entry in self.zipped for name in entry)))


def points(grid: Grid) -> list[Point]:
    """The points of a grid. The last axis changes fastest, the zipped one slowest."""
    given = grid.usual or {}
    usual = {name: given.get(name) for rule in grid.when for name in rule.settings}
    return [
        {**point, **usual, **_gets(grid.when, point)}
        for point in crossed(grid)
        if not any(holds(condition, point) for condition in grid.excluded)
    ]


def crossed(grid: Grid) -> Iterator[Point]:
    """All combinations of the axes, without the rules of `exclude` and `when`."""
    for zipped in grid.zipped or ({},):
        for values in product(*grid.axes.values()):
            yield {**zipped, **dict(zip(grid.axes, values, strict=True))}


def holds(condition: Condition, point: Point) -> bool:
    """Whether a point has one of the values of each setting in `condition`."""
    return all(name in point and point[name] in values for name, values in condition.items())


def place(point: Point, names: Iterable[str]) -> Place:
    """A point's values of the settings `names`, in this order, if it has them."""
    return tuple((name, hashable(point[name])) for name in names if name in point)


def point_at(one: Place) -> dict[str, Any]:
    """A place as a point, or as a part of one."""
    return {name: _listed(value) for name, value in one}


def hashable(value: Any) -> Any:
    """A setting's value with its lists made tuples."""
    return tuple(map(hashable, value)) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    return list(map(_listed, value)) if isinstance(value, tuple) else value


def varying(points: Sequence[Point]) -> tuple[str, ...]:
    """The settings that do not have the same value at all points, in their order."""
    seen: dict[str, set[Any]] = {}
    for point in points:
        for name, value in point.items():
            seen.setdefault(name, set()).add(_apart(value))
    return tuple(name for name, values in seen.items() if len(values) > 1)


def independent(names: Sequence[str], points: Sequence[Point]) -> tuple[str, ...]:
    """`names` without those whose value follows from the names before them.

    For example, if each network has its own width, the width adds nothing to the network's name.
    """
    kept: list[str] = []
    for name in names:
        if len({_apart_at(point, [*kept, name]) for point in points}) > len(
            {_apart_at(point, kept) for point in points}
        ):
            kept.append(name)
    return tuple(kept)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a grid.

    Attributes:
        entry: Where it is: `zip`, `exclude.0`, `when.1`.
        what: What is wrong, in a sentence.
        do: What to do about it.
    """

    entry: str
    what: str
    do: str = ""


def problems(grid: Grid) -> Iterator[Problem]:
    """Everything that is wrong with a grid."""
    yield from _zip_problems(grid)
    yield from _exclude_problems(grid)
    yield from _when_problems(grid)


def _zip_problems(grid: Grid) -> Iterator[Problem]:
    for number, entry in enumerate(grid.zipped):
        where = f"zip.{number}"
        if set(entry) != set(grid.zipped[0]):
            names = ", ".join(grid.zipped[0])
            yield Problem(where, "names other settings than the first entry", f"name {names}")
        for name in entry:
            if name in grid.axes:
                yield Problem(where, f"'{name}' is in axes as well", "leave it out of one of them")
        if any(entry == earlier for earlier in grid.zipped[:number]):
            yield Problem(where, "is listed twice")


def _exclude_problems(grid: Grid) -> Iterator[Problem]:
    there = list(crossed(grid))
    for number, condition in enumerate(grid.excluded):
        where = f"exclude.{number}"
        yield from _condition_problems(condition, where, grid)
        if condition and not any(holds(condition, point) for point in there):
            yield Problem(where, "excludes nothing", "leave it out, or look at its values")
    if all(any(holds(c, point) for c in grid.excluded) for point in there):
        yield Problem("exclude", "excludes every combination of the axes", "exclude less")


def _when_problems(grid: Grid) -> Iterator[Problem]:
    there = points(Grid(grid.axes, grid.zipped, grid.excluded))
    for number, rule in enumerate(grid.when):
        where = f"when.{number}"
        yield from _condition_problems(rule.condition, f"{where}.if", grid)
        if not rule.settings:
            yield Problem(f"{where}.set", "sets nothing")
        for name in rule.settings:
            if name in grid.names:
                yield Problem(
                    f"{where}.set", f"'{name}' is an axis, which this would override",
                    "leave it out of one of them",
                )  # fmt: skip
        matched = [point for point in there if holds(rule.condition, point)]
        if rule.condition and not matched:
            yield Problem(f"{where}.if", "holds for no combination of the axes")
        for name in rule.settings:
            others = [o for o in grid.when[:number] if name in o.settings]
            if any(holds(other.condition, point) for other in others for point in matched):
                yield Problem(f"{where}.set", f"'{name}' is set twice for the same combination")


def _condition_problems(condition: Condition, where: str, grid: Grid) -> Iterator[Problem]:
    if not condition:
        yield Problem(where, "names no setting", "name one, as in {arch: resnet50}")
    for name in condition:
        if name not in grid.names:
            axes = ", ".join(sorted(grid.names))
            yield Problem(where, f"'{name}' is not an axis of this study", f"its axes: {axes}")


def _gets(rules: Sequence[When], point: Point) -> dict[str, Any]:
    return {
        name: value
        for rule in rules
        if holds(rule.condition, point)
        for name, value in rule.settings.items()
    }


def _apart(value: Any) -> Any:
    """A value for comparison: 1 and 1.0 are equal, true and 1 are not."""
    return (isinstance(value, bool), hashable(value))


def _apart_at(point: Point, names: Iterable[str]) -> tuple[Any, ...]:
    return tuple(_apart(point.get(name)) for name in names)
