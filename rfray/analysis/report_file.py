"""The report file: the layout of every table and figure as typed, validated data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from rfray.analysis import schema
from rfray.analysis.values import Scalar, typed
from rfray.errors import UserError, nearest
from rfray.files.yaml_file import read_mapping

_Lines = dict[tuple[str, int], int]
"""The line of each table and figure in the file, by section and index after `each` is expanded."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Hypothesis = Literal["falls", "rises"]
"""How a column is expected to change as an ordered axis grows, stated before the data are seen."""

RECEPTIVE_FIELD = "receptive_field"
"""The axis of a trend, unless its column names another one."""

_Values = Annotated[
    tuple[Scalar, ...], BeforeValidator(lambda one: one if isinstance(one, list) else [one])
]
_Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Quantity(_Model):
    """A metric of a stage, with the stage's own parameter if it has one.

    Attributes:
        rate: Pruning rate, for prune and finetune.
        at: `init` or `trained`, for hessian, erf, saturation and cka; the default for cka is
            `trained`.
    """

    stage: str
    metric: str
    rate: float | None = None
    at: str | None = None

    @model_validator(mode="after")
    def _has_its_parameter(self) -> Quantity:
        own = schema.OWN_PARAMETER.get(self.stage)
        for name, value in (("rate", self.rate), ("at", self.at)):
            if name == own and value is None and self.stage not in schema.USUAL:
                raise ValueError(f"stage {self.stage} needs a {name}")
            if name != own and value is not None:
                raise ValueError(f"stage {self.stage} has no {name}")
        return self

    @property
    def parameter(self) -> Scalar | None:
        """The value of the stage's own parameter, None if it has none."""
        if self.rate is not None:
            return typed("rate", self.rate)
        return schema.USUAL.get(self.stage) if self.at is None else self.at

    def with_metric(self, metric: str) -> Quantity:
        """A metric of the same stage with the same parameter."""
        return Quantity(stage=self.stage, metric=metric, rate=self.rate, at=self.at)

    def __str__(self) -> str:
        said = schema.told(self.stage, self.parameter)
        return f"{self.stage} {self.parameter}" if said else self.stage


class _Column(_Model):
    """What every column has.

    Attributes:
        name: Its name in files.
        format: How its numbers are written.
        trend: Whether its values are expected to fall or to rise as `trend_over` grows; None: not
            tested.
        trend_over: The receptive field, or an axis of numbers such as `train.learning_rate`.
        optional: If the study plans nothing for this column, whether only the column is left out
            and not the whole table.
    """

    name: _Identifier
    title: str
    format: str = ".2f"
    trend: Hypothesis | None = None
    trend_over: str = RECEPTIVE_FIELD
    optional: bool = False

    @field_validator("format")
    @classmethod
    def _formats_a_number(cls, value: str) -> str:
        try:
            format(0.5, value)
        except ValueError as error:
            raise ValueError(f"'{value}' is not a number format such as .2f or .3g") from error
        return value

    @model_validator(mode="after")
    def _says_what_the_trend_is(self) -> _Column:
        if self.trend is None and self.trend_over != RECEPTIVE_FIELD:
            raise ValueError("trend_over without a trend: say whether it falls or rises")
        return self


class MeasuredColumn(_Column, Quantity):
    """A column of values that runs logged.

    Attributes:
        over: What the mean is taken over: the seeds of a cell, with one value per run, or the
            draws within one run, with one value per step of the metric.
    """

    over: Literal["seeds", "draws"] = "seeds"

    @model_validator(mode="after")
    def _draws_are_not_pooled_over_seeds(self) -> MeasuredColumn:
        if self.over == "draws" and schema.applies(schema.SEED, self.stage):
            raise ValueError(f"draws of {self.stage} would be pooled over seeds")
        return self


class DifferenceColumn(_Column):
    """A column of differences, taken per seed before they are averaged.

    It is the first minus the second of two measured columns of the table, and left out if one of
    them is. It must equal the logged quantity `equals`, whose name its published values have too.
    """

    minus: tuple[str, str]
    equals: Quantity | None = None


def _kind(value: object) -> str:
    differs = "minus" in value if isinstance(value, Mapping) else hasattr(value, "minus")
    return "difference" if differs else "measured"


Column = Annotated[
    Annotated[MeasuredColumn, Tag("measured")] | Annotated[DifferenceColumn, Tag("difference")],
    Discriminator(_kind),
]
"""A column of a table."""


class _Selected(_Model):
    """What tables and figures have: a name for files, a caption, the values that axes may have.

    An axis that `where` does not name may have every value.
    """

    id: _Identifier
    title: str
    where: dict[str, _Values] = Field(default_factory=dict)

    @field_validator("where")
    @classmethod
    def _typed_values(cls, where: dict[str, tuple[Scalar, ...]]) -> dict[str, tuple[Scalar, ...]]:
        return {axis: tuple(typed(axis, v) for v in values) for axis, values in where.items()}


_WRITTEN_BESIDE = ("trends", "comparisons", "differences", "search")
"""Names of files in the same folder as those of the tables."""


class TableSpec(_Selected):
    """A table: one row for each cell of the study, without its seed.

    The values of the axis `together`, such as `knob`, are rows of one block, next to each other for
    each receptive field, and not one block each.
    """

    columns: tuple[Column, ...] = Field(min_length=1)
    together: str | None = None

    @model_validator(mode="after")
    def _columns_fit(self) -> TableSpec:
        if self.id in _WRITTEN_BESIDE:
            raise ValueError(f"'{self.id}' is the name of a file that every report may write")
        _refuse_twice("column", [column.name for column in self.columns])
        if all(column.optional for column in self.columns):
            raise ValueError("all columns are optional: at least one must not be")
        measured = self.measured
        for column in self.columns:
            for name in column.minus if isinstance(column, DifferenceColumn) else ():
                if name not in measured:
                    advice = nearest(name, measured)
                    raise ValueError(f"no measured column '{name}' to subtract ({advice})")
        scopes = {schema.not_applying(column.stage) - {schema.SEED} for column in measured.values()}
        if len(scopes) > 1:
            raise ValueError("its columns are of stages whose runs do not have the same axes")
        return self

    @property
    def measured(self) -> dict[str, MeasuredColumn]:
        """Its measured columns by name."""
        return {c.name: c for c in self.columns if isinstance(c, MeasuredColumn)}


class FigureSpec(_Selected):
    """A figure, drawn once for each data set, network and further axis of the study."""

    kind: Literal[
        "spectra",
        "eigenvalues",
        "cka",
        "cka_layers",
        "barriers",
        "erf",
        "importance",
        "probe",
        "saturation",
        "training",
        "pruning",
        "finetuning",
        "search",
        "knobs",
    ]


class PublishedSpec(_Model):
    """The file of published values, a csv file next to the report file, and their settings.

    A run that records another value for a setting of `holds_for` is never compared with them.
    """

    file: str
    holds_for: dict[str, Scalar] = Field(default_factory=dict)


class ReportSpec(_Model):
    """The layout of a report: its tables and figures in order, and its published values."""

    title: str
    published: PublishedSpec | None = None
    tables: tuple[TableSpec, ...] = ()
    figures: tuple[FigureSpec, ...] = ()

    @model_validator(mode="after")
    def _ids_are_unique(self) -> ReportSpec:
        _refuse_twice("table", [table.id for table in self.tables])
        _refuse_twice("figure", [figure.id for figure in self.figures])
        return self


def read_layout(path: Path) -> ReportSpec:
    """Reads a report file; an entry with `each: {name: [values]}` becomes one entry per value.

    Raises:
        UserError: If the file does not exist, or is not YAML or not a report.
    """
    raw, written = read_mapping(path)
    lines: _Lines = {}
    for section in ("tables", "figures"):
        entries = raw.get(section)
        if isinstance(entries, list):
            expanded = [
                (one, written[f"{section}.{place}"])
                for place, entry in enumerate(entries)
                for one in _expand(entry, path)
            ]
            raw[section] = [one for one, _ in expanded]
            lines |= {(section, place): line for place, (_, line) in enumerate(expanded)}
    try:
        return ReportSpec.model_validate(raw)
    except ValidationError as error:
        raise _user_error(error, raw, path, lines) from error


def check_names(
    report: ReportSpec, path: Path, axes: Sequence[str], metrics: Mapping[str, frozenset[str]]
) -> None:
    """Refuses names of stages, metrics and axes that neither the schema nor the study has.

    Raises:
        UserError: At the first unknown name, with the nearest known one.
    """
    stages = {*schema.METRICS, *metrics}
    for table in report.tables:
        place = f"{path}: table '{table.id}'"
        for column in table.columns:
            quantity = column.equals if isinstance(column, DifferenceColumn) else column
            if quantity is None:
                continue
            _refuse_unknown("stage", quantity.stage, stages, place)
            known = schema.METRICS.get(quantity.stage, frozenset())
            known |= metrics.get(quantity.stage, frozenset())
            _refuse_unknown(f"metric of {quantity.stage}", quantity.metric, known, place)
    for entry in (*report.tables, *report.figures):
        for axis in entry.where:
            place = f"{path}: '{entry.id}' where"
            _refuse_unknown("axis", axis, {*schema.STANDARD_AXES, *axes}, place)
    for table in report.tables:
        if table.together is not None:
            place = f"{path}: '{table.id}' together"
            _refuse_unknown("axis", table.together, {*axes, "knob"}, place)


def _expand(entry: object, path: Path) -> list[object]:
    match entry:
        case {"each": dict(each), **rest} if [*map(type, each.values())] == [list]:
            ((name, values),) = each.items()
            return [_fill(rest, f"{{{name}}}", value) for value in values]
        case {"each": _, **rest}:
            example = "each must be one name with a list, such as rate: [0.5, 0.9]"
            raise UserError(f"'{rest.get('id')}': {example}", where=str(path))
    return [entry]


def _fill(node: object, placeholder: str, value: object) -> object:
    if isinstance(node, dict):
        return {key: _fill(child, placeholder, value) for key, child in node.items()}
    if isinstance(node, list):
        return [_fill(child, placeholder, value) for child in node]
    if node == placeholder:
        return value
    return node.replace(placeholder, str(value)) if isinstance(node, str) else node


def _refuse_twice(what: str, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{what} '{twice}' occurs twice")


def _refuse_unknown(what: str, name: str, known: set[str] | frozenset[str], place: str) -> None:
    if name not in known:
        raise UserError(f"unknown {what} '{name}'", where=place, do=nearest(name, known))


_MODELS: Mapping[str, type[BaseModel]] = {
    "tables": TableSpec,
    "figures": FigureSpec,
    "published": PublishedSpec,
    "measured": MeasuredColumn,
    "difference": DifferenceColumn,
    "equals": Quantity,
}


def _user_error(
    error: ValidationError, raw: Mapping[str, Any], path: Path, lines: _Lines
) -> UserError:
    # A misspelt key gives two errors: an unknown key and a missing one. The first one helps more.
    first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    location = list(first["loc"])
    places = [str(path)]
    if len(location) > 1 and location[0] in ("tables", "figures"):
        entry = raw[str(location[0])][location[1]]
        name = entry.get("id", location[1]) if isinstance(entry, Mapping) else location[1]
        places[0] = f"{path}:{lines[str(location[0]), int(location[1])]}"
        places.append(f"{str(location[0])[:-1]} '{name}'")
    inner = [part for part in location[2 if len(places) > 1 else 0 :] if part not in _TAGS]
    dotted = ".".join(str(part) for part in inner)
    if first["type"] == "extra_forbidden":
        holder = next((p for p in reversed(location[:-1]) if p in _MODELS), None)
        model = ReportSpec if holder is None else _MODELS[str(holder)]
        advice = nearest(str(location[-1]), model.model_fields)
        return UserError(f"unknown key '{dotted}'", where=": ".join(places), do=advice)
    message = first["msg"].removeprefix("Value error, ")
    what = f"{dotted}: {message}" if dotted else message
    return UserError(what, where=": ".join(places))


_TAGS = ("measured", "difference")
