"""The study document: as the driver recorded it, or inferred from the runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rfray import grid
from rfray.analysis import schema
from rfray.analysis.chance import TestImages
from rfray.analysis.values import Scalar, typed
from rfray.data.amount import Amount, amount_problem
from rfray.errors import UserError
from rfray.grid import Point

if TYPE_CHECKING:
    from rfray.tracking import RunRecord


Turn = tuple[str, str, str, str]
"""Data set, network, the knob that the study names, and the value that it asks for."""

Turned = tuple[str, int]
"""The knob and the strength of the resulting network."""


@dataclass(frozen=True)
class StudyDocument:
    """What was planned.

    Attributes:
        axes: The planned values of each axis, in the study's order; a setting of a stage is among
            them only if it varies.
        points: Each planned combination of the axes, including the seed.
        stages: Each planned stage with its settings.
        parameters: The planned values of each stage's own parameter, if they are stated.
        validation: How many training images the study holds out, or which share of them; None if
            none.
        inferred: True if there was no document, so that the values are those of the runs.
        datasets: The classes and test images of each data set, if that is recorded.
        turned: If the study turns knobs: the knob and the strength that runs record, by data set,
            network, the knob that the study names and the value that it asks for.
        left_out: For each network that could not be read, the stages that the study leaves out.
    """

    axes: Mapping[str, tuple[Scalar, ...]]
    points: tuple[Point, ...]
    stages: Mapping[str, Mapping[str, Any]]
    parameters: Mapping[str, tuple[Scalar, ...]]
    inferred: bool
    validation: Amount | None = None
    datasets: Mapping[str, TestImages] = field(default_factory=dict)
    turned: Mapping[Turn, Turned] = field(default_factory=dict)
    left_out: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def leaves_out(self, stage: str, choices: Mapping[str, Scalar]) -> bool:
        """Whether the study leaves out a stage at these values of the axes."""
        return stage in self.left_out.get(str(choices.get("arch")), ())

    def measures(self, metric: str, choices: Mapping[str, Scalar]) -> bool:
        """Whether runs report a metric at these values of the axes.

        Some metrics need the layers of a network, which not every network shows.
        """
        return metric not in schema.OF_LAYERS or choices.get("arch") not in self.left_out

    def test_images(self, identity: Iterable[tuple[str, Scalar]]) -> TestImages | None:
        """The images that accuracies of a cell are measured on; None if not recorded."""
        return self.datasets.get(str(dict(identity).get("dataset")))

    @cached_property
    def size_axis(self) -> str:
        """The axis along which the study changes the receptive field."""
        return next((one for one in schema.TURNS if one in self.axes), schema.TURNS[-1])

    def asked_of(self, params: Mapping[str, str]) -> list[dict[str, str]]:
        """The knobs, with the value asked for, that a run with these params is the result of.

        Several knobs may give the same network, so there may be several. Empty if the study turns
        no knobs.
        """
        own = (params.get("knob", "pool"), params.get("strength", params.get("kernel_size", "")))
        found = {
            (knob, asked): {"knob": knob, self.size_axis: asked}
            for (dataset, arch, knob, asked), (name, strength) in self.turned.items()
            if (name, str(strength)) == own
            and arch == params.get("arch")
            and params.get("dataset", dataset) == dataset
        }
        return list(found.values())

    def stand_in(self, identity: Iterable[tuple[str, Scalar]]) -> int:
        """The kernel size of a cell, or a number that replaces it: 2, 3, … by the value asked for.

        It gives the colour of a cell: cells with the same value share it, whatever their knob.
        """
        values = dict(identity)
        axis = self.size_axis
        if axis == "kernel_size":
            return int(values["kernel_size"])
        shared = {one: values[one] for one in ("dataset", "arch") if one in values}
        sizes = {
            point[axis]
            for point in self.points
            if all(point.get(one) == value for one, value in shared.items())
        }
        return 2 + sorted({*sizes, values[axis]}).index(values[axis])

    def seeds_at(self, identity: Iterable[tuple[str, Scalar]]) -> tuple[int, ...]:
        """The planned seeds, ascending, at the axis values of `identity`."""
        known = tuple((axis, value) for axis, value in identity if axis in self.axes)
        axes = tuple(axis for axis, _ in known)
        if axes not in self._seeds:
            found: dict[grid.Place, set[int]] = {}
            for point in self.points:
                if schema.SEED in point:
                    found.setdefault(grid.place(point, axes), set()).add(int(point[schema.SEED]))
            self._seeds[axes] = {one: tuple(sorted(seeds)) for one, seeds in found.items()}
        return self._seeds[axes].get(known, ())

    @cached_property
    def _seeds(self) -> dict[tuple[str, ...], dict[grid.Place, tuple[int, ...]]]:
        return {}

    def beside(self, axis: str) -> frozenset[str]:
        """The axes that have one value in cells that differ in `axis` only.

        These are all axes without `axis` and those whose value follows from it: if each kernel size
        has its own learning rate, rows with different rates still belong together.
        """
        if axis not in self._beside:
            first = [one for one in schema.STANDARD_AXES if one in self.axes]
            if axis in self.axes and axis not in first:
                first.append(axis)
            names = (*first, *(a for a in self.axes if a not in (*first, schema.SEED)))
            telling = grid.independent(names, self.points)
            besides = tuple(one for one in telling if one != axis)
            self._beside[axis] = frozenset(
                one
                for one in names
                if one != axis
                and (one in besides or one not in grid.independent((*besides, one), self.points))
            )
        return self._beside[axis]

    @cached_property
    def _beside(self) -> dict[str, frozenset[str]]:
        return {}


def parse_document(document: Mapping[str, Any], seen: Iterable[str]) -> StudyDocument:
    """The study document as typed data.

    Args:
        document: The document.
        seen: Stages of the runs: a section of the document that is not in the schema is a stage if
            it is one of them.

    Raises:
        UserError: If the document does not have the public form.
    """
    if "turned" in document:
        document = _with_asked_fields(document)
    axes = document.get("axes")
    if not isinstance(axes, Mapping) or not axes:
        raise UserError("the study document has no axes", where="experiment tag rfray.study")
    try:
        points = tuple(grid.points(_grid(document)))
        stages = {
            stage: {**document[stage], **_everywhere(points, stage)}
            for stage in dict.fromkeys((*schema.STAGES, *sorted(seen)))
            if isinstance(document.get(stage), Mapping)
        }
        parameters = {
            stage: _values(own, values)
            for stage, own in schema.OWN_PARAMETER.items()
            if stage in stages and (values := _planned_parameter(stages, stage, own)) is not None
        }
        if "search" in stages:
            stages = {"sample": {}, **stages}
            parameters["sample"] = tuple(range(_planned_samples(stages["search"])))
        return StudyDocument(
            _axes(points),
            points,
            stages,
            parameters,
            inferred=False,
            validation=_validation(document),
            datasets={
                name: TestImages(int(facts["classes"]), int(facts["test_images"]))
                for name, facts in document.get("datasets", {}).items()
            },
            turned=_turned(document.get("turned", {})),
            left_out={a: frozenset(names) for a, names in document.get("left_out", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"the study document has an impossible value: {error}",
            where="experiment tag rfray.study",
        ) from error


def _with_asked_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document, with the axis `receptive_field` renamed to the name that the analysis uses."""

    def renamed(named: Mapping[str, Any]) -> dict[str, Any]:
        return {schema.ASKED_FIELD if n == "receptive_field" else n: v for n, v in named.items()}

    return {
        **document,
        "axes": renamed(document["axes"]),
        "zip": [renamed(entry) for entry in document.get("zip", ())],
        "exclude": [renamed(entry) for entry in document.get("exclude", ())],
        "when": [
            {key: renamed(part) for key, part in rule.items()} for rule in document.get("when", ())
        ],
    }


def _turned(written: Mapping[str, Any]) -> dict[Turn, Turned]:
    return {
        (dataset, arch, knob, asked): (str(name), int(strength))
        for dataset, archs in written.items()
        for arch, knobs in archs.items()
        for knob, turns in knobs.items()
        for asked, (name, strength) in turns.items()
    }


def _validation(document: Mapping[str, Any]) -> Amount | None:
    """The validation split; ValueError if it is neither a number of images nor a share."""
    held_out: Amount | None = (document.get("data") or {}).get("validation")
    problem = None if held_out is None else amount_problem(held_out)
    if problem is not None:
        raise ValueError(f"data.validation: {problem}")
    return held_out


def _grid(document: Mapping[str, Any]) -> grid.Grid:
    """The document's grid with typed values."""
    rules = document.get("when", ())
    return grid.Grid(
        axes={axis: _values(axis, values) for axis, values in document["axes"].items()},
        zipped=[_choice(entry) for entry in document.get("zip", ())],
        excluded=[_condition(entry) for entry in document.get("exclude", ())],
        when=[grid.When(_condition(rule["if"]), _choice(rule["set"])) for rule in rules],
        # An axis without a stage, such as the width, is set at every point.
        usual={n: _usual(document, n) for rule in rules for n in rule["set"] if "." in n},
    )


def _choice(entry: Mapping[str, object]) -> dict[str, Scalar]:
    return {name: typed(name, _text(value)) for name, value in entry.items()}


def _condition(entry: Mapping[str, object]) -> dict[str, tuple[Scalar, ...]]:
    return {name: _values(name, values) for name, values in entry.items()}


def _usual(document: Mapping[str, Any], name: str) -> Scalar:
    stage, _, leaf = name.partition(".")
    return typed(name, _text(document.get(stage, {}).get(leaf)))


def _axes(points: Sequence[Point]) -> dict[str, tuple[Scalar, ...]]:
    names = dict.fromkeys(name for point in points for name in point)
    values = {name: tuple(dict.fromkeys(point[name] for point in points)) for name in names}
    return {name: found for name, found in values.items() if "." not in name or len(found) > 1}


def _planned_samples(search: dict[str, Any]) -> int:
    """Number of samples of each search; removes the drawn samples from its section."""
    drawn = len(search.pop("drawn", ()))
    return int(search.pop("planned_samples", drawn))


def _everywhere(points: Sequence[Point], stage: str) -> dict[str, Scalar]:
    """The settings of a stage that have the same value at each point of the grid."""
    varying = grid.varying(points)
    return {
        name.partition(".")[2]: value
        for name, value in points[0].items()
        if name.startswith(f"{stage}.") and name not in varying
    }


def infer_document(records: Iterable[RunRecord]) -> StudyDocument:
    """The study document that the runs show: every value of every axis."""
    runs = [record for record in records if schema.STAGE_TAG in record.tags]
    seen = {record.tags[schema.STAGE_TAG] for record in runs}
    axes = (*schema.STANDARD_AXES, schema.SEED, *_swept_besides(runs))
    values = {axis: found for axis in axes if (found := _seen_values(axis, runs))}
    return StudyDocument(
        axes=values,
        points=tuple(grid.points(grid.Grid(values))),
        stages={stage: {} for stage in (*schema.STAGES, *sorted(seen)) if stage in seen},
        parameters={},
        inferred=True,
    )


def identity_axes(document: StudyDocument, records: Iterable[RunRecord]) -> tuple[str, ...]:
    """The axes that make rows different: the standard ones that occur, then the study's others."""
    known = {*document.axes, *(name for record in records for name in record.params)}
    unsized = {*schema.TURNS} - {document.size_axis}
    standard = [axis for axis in schema.STANDARD_AXES if axis in known - unsized]
    others = [axis for axis in document.axes if axis not in {*standard, schema.SEED}]
    return (*standard, *others)


def _values(name: str, values: object) -> tuple[Scalar, ...]:
    listed = values if isinstance(values, list | tuple) else [values]
    return tuple(dict.fromkeys(typed(name, _text(value)) for value in listed))


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _planned_parameter(stages: Mapping[str, Any], stage: str, own: str) -> object | None:
    places = [stage, *([schema.NEEDS[stage]] if stage in schema.NEEDS else [])]
    for place in places:
        settings = stages.get(place, {})
        for key in (f"{own}s", own):
            if key in settings:
                return settings[key]  # type: ignore[no-any-return]
    return schema.USUAL.get(stage)


def _seen_values(axis: str, runs: Iterable[RunRecord]) -> tuple[Scalar, ...]:
    found: set[Scalar] = set()
    for record in runs:
        if axis in record.params and axis not in schema.not_applying(record.tags[schema.STAGE_TAG]):
            with suppress(ValueError):  # the frame lists such a run as unreadable, with the value
                found.add(typed(axis, record.params[axis]))
    return tuple(sorted(found, key=lambda value: (isinstance(value, str), value)))


def _swept_besides(runs: Iterable[RunRecord]) -> list[str]:
    """Parameters that have several values among the training runs of one cell."""
    standard = (*schema.STANDARD_AXES, schema.SEED)
    seen: dict[tuple[str | None, ...], dict[str, str]] = {}
    swept: set[str] = set()
    for record in runs:
        if record.tags[schema.STAGE_TAG] == "train" and record.status == "FINISHED":
            cell = tuple(record.params.get(axis) for axis in standard)
            first = seen.setdefault(cell, record.params)
            swept |= {name for name in first if record.params.get(name, first[name]) != first[name]}
    return sorted(swept - {*standard, "receptive_field", "map_size"})
