"""Weight matching: the permutation of a network's channels that makes it most like another network.

Ainsworth, Hayase & Srinivasa, *Git Re-Basin: Merging Models modulo Permutation Symmetries*, ICLR
2023, Algorithm 1: the groups of channels are permuted one after the other. Each permutation is the
assignment that increases the inner product of the two networks' weights most while the others stay
fixed. It ends when no group changes. Here channels are members of groups of plain arrays.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Array = NDArray[np.generic]
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

_LEAST_GAIN = 1e-10
"""Relative to the largest possible inner product: a smaller gain is rounding."""


@dataclass(frozen=True)
class Occurrence:
    """The positions of a group's members along one axis of one array.

    Attributes:
        array: Its name.
        axis: 0 or 1.
        index: Indices along the axis, (members, places): those of a member move together.
        rows: The part of the first axis where the group is on the second axis; None for all of it.
    """

    array: str
    axis: int
    index: Integers
    rows: range | None = None

    def members(self, arrays: Mapping[str, Array]) -> Array:
        """A view of the array, with the axis of `index` first."""
        array = arrays[self.array]
        part = array if self.rows is None else array[self.rows.start : self.rows.stop]
        return np.moveaxis(part, self.axis, 0)


@dataclass(frozen=True)
class Group:
    """Members that may be permuted, with all their occurrences."""

    occurrences: tuple[Occurrence, ...]

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.occurrences[0].index)


def permuted(
    arrays: Mapping[str, Array], groups: Sequence[Group], orders: Sequence[Integers]
) -> dict[str, Array]:
    """Copies of the arrays with each group's members in another order.

    An order says which member moves to each place, (members,). A group may have arrays that are not
    among the given ones.
    """
    copies = {name: np.array(array) for name, array in arrays.items()}
    for group, order in zip(groups, orders, strict=True):
        _permute(copies, group, order)
    return copies


def weight_matching(
    first: Mapping[str, Array], second: Mapping[str, Array], groups: Sequence[Group], seed: int = 0
) -> list[Integers]:
    """The order of each group's members in `second` that makes it most like `first`.

    The start is one pass through the groups in their order; each is matched by the arrays between
    it and earlier groups only. This finds a permuted copy if the assignments are unique. Then
    Algorithm 1 follows, with groups in random order, until none of them changes. A group is tried
    again after a change of a group that shares an array with it. Sums are in float64. The groups
    nearest to the input come first; there is one order for each, as `permuted` takes them.
    """
    matching = _Matching(first, second, groups)
    for number in range(len(groups)):
        matching.start(number)
    generator = np.random.default_rng(seed)
    while matching.stale:
        for number in generator.permutation(sorted(matching.stale)).tolist():
            matching.improve(number)
    return matching.orders


class _Matching:
    """Two networks, and the orders found so far; `second` is already in these orders."""

    def __init__(
        self, first: Mapping[str, Array], second: Mapping[str, Array], groups: Sequence[Group]
    ) -> None:
        self.orders: list[Integers] = [np.arange(group.size) for group in groups]
        self._first = first
        self._second = {name: np.array(array) for name, array in second.items()}
        self._groups = [
            Group(tuple(one for one in group.occurrences if one.array in first)) for group in groups
        ]
        self._crossing = _crossing(self._groups)
        self._beside = [set[int]().union(*crossed) for crossed in self._crossing]
        self._norms = {
            name: float(np.linalg.norm(first[name]) * np.linalg.norm(second[name]))
            for name in first
        }
        self.stale = set(range(len(groups)))
        """Groups to try: a group that shares an array with them has changed."""

    def start(self, number: int) -> None:
        """Match a group by the arrays between it and earlier groups."""
        later = set(range(number, len(self._groups)))
        occurrences = [
            one
            for one, crossed in zip(
                self._groups[number].occurrences, self._crossing[number], strict=True
            )
            if not crossed & later
        ]
        self._reorder(number, _assigned(self._products(occurrences, self._groups[number].size)))

    def improve(self, number: int) -> None:
        """Match a group by all its arrays, if that increases the inner product."""
        self.stale.discard(number)
        group = self._groups[number]
        products = self._products(group.occurrences, group.size)
        order = _assigned(products)
        gain = float(products[np.arange(group.size), order].sum() - products.trace())
        if gain <= self._rounding(group):
            return
        twice = number in self._beside[number]
        before = self._inner_product(group) if twice else 0.0
        self._reorder(number, order)
        if twice and self._inner_product(group) - before <= self._rounding(group):
            # If the group is on both axes of an array, the assignment may not be an improvement.
            self._reorder(number, np.argsort(order))
            return
        self.stale |= self._beside[number]

    def _products(self, occurrences: Iterable[Occurrence], size: int) -> Floats:
        """Inner products of each member in `first` with each in `second`, (members, members)."""
        total = np.zeros((size, size))
        for one in occurrences:
            total += _features(self._first, one) @ _features(self._second, one).T
        return total

    def _inner_product(self, group: Group) -> float:
        return sum(
            float(np.vdot(self._first[name].astype(float), self._second[name].astype(float)))
            for name in {one.array for one in group.occurrences}
        )

    def _rounding(self, group: Group) -> float:
        return _LEAST_GAIN * sum(self._norms[name] for name in {o.array for o in group.occurrences})

    def _reorder(self, number: int, order: Integers) -> None:
        _permute(self._second, self._groups[number], order)
        self.orders[number] = self.orders[number][order]


def _permute(arrays: Mapping[str, Array], group: Group, order: Integers) -> None:
    for one in group.occurrences:
        if one.array in arrays:
            members = one.members(arrays)
            members[one.index] = members[one.index[order]]


def _features(arrays: Mapping[str, Array], occurrence: Occurrence) -> Floats:
    """The numbers of each member in an array, (members, numbers)."""
    taken = occurrence.members(arrays)[occurrence.index]
    return taken.reshape(len(taken), -1).astype(np.float64)


def _assigned(products: Floats) -> Integers:
    """For each member in `first`, the member in `second` that moves to its place."""
    return np.asarray(linear_sum_assignment(products, maximize=True)[1], dtype=np.int64)


def _crossing(groups: Sequence[Group]) -> list[list[set[int]]]:
    """For each occurrence of each group, the groups on the other axis of the same array."""
    along: dict[str, list[tuple[int, Occurrence]]] = {}
    for number, group in enumerate(groups):
        for one in group.occurrences:
            along.setdefault(one.array, []).append((number, one))

    def crossed(one: Occurrence) -> set[int]:
        return {number for number, other in along[one.array] if _meet(one, other)}

    return [[crossed(one) for one in group.occurrences] for group in groups]


def _meet(one: Occurrence, other: Occurrence) -> bool:
    if one.axis == other.axis:
        return False
    rows, columns = (one, other) if one.axis == 0 else (other, one)
    if columns.rows is None:
        return True
    return bool(np.isin(rows.index, columns.rows).any())
