"""A study: the sweep file as typed, validated data."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, create_model, field_validator

from rfray.cell import Cell
from rfray.data.registry import at_size, naming_problem
from rfray.errors import UserError, nearest
from rfray.models.registry import ARCHITECTURES
from rfray.parameters import NOTHING_TWICE, Parameters
from rfray.stages.registry import stages


def _all_known(kind: str, names: list[str], known: Mapping[str, object]) -> list[str]:
    for name in names:
        if name not in known:
            raise ValueError(f"no {kind} is called '{name}' ({nearest(name, known)})")
    return names


class Axes(Parameters):
    """What the sweep varies: every combination of these is a cell."""

    dataset: Annotated[list[str], Field(min_length=1), NOTHING_TWICE] = Field(
        description="Names of data sets; `NAME@64` scales its pictures to 64 pixels."
    )
    arch: Annotated[list[str], Field(min_length=1), NOTHING_TWICE] = Field(
        description="Names of networks."
    )
    kernel_size: Annotated[
        list[Annotated[int, Field(ge=2)]], Field(min_length=1), NOTHING_TWICE
    ] = Field(description="Of the max-pool behind the first convolution; sets the receptive field.")
    seed: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), NOTHING_TWICE] = Field(
        description="Of initialisation and the order of images; equal seeds, equal numbers."
    )
    width: Annotated[
        list[Annotated[float, Field(gt=0, le=8)]], Field(min_length=1), NOTHING_TWICE
    ] = Field(default=[1.0], description="Times the channels of the paper's networks.")

    @field_validator("dataset")
    @classmethod
    def _known_datasets(cls, names: list[str]) -> list[str]:
        problems = [problem for name in names if (problem := naming_problem(name)) is not None]
        if problems:
            raise ValueError(problems[0])
        return names

    @field_validator("arch")
    @classmethod
    def _known_architectures(cls, names: list[str]) -> list[str]:
        return _all_known("network", names, ARCHITECTURES)


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _in_seconds(value: Any) -> Any:
    """`"90m"` in seconds; what is no such text as it is."""
    duration = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smhd])", value) if isinstance(value, str) else None
    return float(duration[1]) * _SECONDS[duration[2]] if duration else value


Duration = Annotated[
    float,
    BeforeValidator(_in_seconds, json_schema_input_type=float | str),
    Field(gt=0),
]
"""Seconds; written as a number, or as in `90m`, `2h`, `1d`."""


class Request(Parameters):
    """What one running stage occupies, and how long and how often it may run."""

    cpus: Annotated[float, Field(gt=0)] = Field(
        default=1, description="Processor cores; PyTorch runs as many threads, at least one."
    )
    gpus: Annotated[float, Field(ge=0)] | None = Field(
        default=None,
        description="Share of a GPU; null means 1 for train and a quarter for the others where "
        "the cluster has GPUs, else 0.",
    )
    memory: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="Bytes of main memory to reserve; null reserves none."
    )
    time_limit: Duration | None = Field(
        default=None,
        description="Seconds, or as in 90m or 2h, after which a run that has not ended counts as "
        "failed; null sets no limit.",
    )
    retries: Annotated[int, Field(ge=0)] = Field(
        default=2,
        description="How often a run is started anew when its process or its machine is lost.",
    )
    checkpoint_every: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="Epochs between the checkpoints of train and finetune: an interrupted run "
        "repeats fewer epochs than that.",
    )


class Data(Parameters):
    """Where data sets lie, which enters no key, and how large their pictures are made."""

    root: str | None = Field(
        default=None, description="Folder of their files; null takes RFRAY_DATA or ~/.cache/rfray."
    )
    image_size: Annotated[int, Field(gt=0)] | None = Field(
        default=None,
        description="Height and width in pixels that all pictures are scaled and cropped to; null "
        "leaves each data set its own size. 'NAME@64' in axes.dataset says it for one data set.",
    )


StudyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class Study(Parameters):
    """A sweep file: axes, protocol, the stages that follow training, resources."""

    name: StudyName = Field(description="Name of the study, and of its MLflow experiment.")
    axes: Axes
    data: Data = Field(default=Data(), description="Where data sets lie, and their image size.")
    resources: dict[str, Request] = Field(
        default={}, description="What a stage occupies, by the stage's name."
    )

    @field_validator("resources")
    @classmethod
    def _known_stages(cls, resources: dict[str, Request]) -> dict[str, Request]:
        _all_known("stage", list(resources), stages())
        return resources

    def stage_parameters(self) -> Mapping[str, Parameters]:
        """The parameters of every stage that the study runs, in the order of the graph."""
        present = {name: getattr(self, name) for name in stages()}
        return {name: value for name, value in present.items() if value is not None}

    def request(self, stage: str) -> Request:
        """What one node of `stage` occupies."""
        return self.resources.get(stage, Request())

    def cells(self) -> Iterator[Cell]:
        """Every combination of the axes, the last axis fastest."""
        axes = {name: getattr(self.axes, name) for name in Axes.model_fields}
        axes["dataset"] = self._sized_datasets()
        for values in itertools.product(*axes.values()):
            yield Cell(**dict(zip(axes, values, strict=True)))

    def document(self) -> dict[str, Any]:
        """The study as JSON-ready data, every default written out, data sets with their size."""
        document = self.model_dump(mode="json", exclude_none=True)
        document["axes"]["dataset"] = self._sized_datasets()
        return document

    def _sized_datasets(self) -> list[str]:
        sized = (at_size(name, self.data.image_size) for name in self.axes.dataset)
        return list(dict.fromkeys(sized))  # cifar10 and cifar10@64 may mean the same


@cache
def study_model() -> type[Study]:
    """`Study` with one field for each registered stage, so that a new stage needs no line here."""
    fields: dict[str, Any] = {
        stage.name: (stage.parameters | None, Field(default=None, description=stage.summary))
        for stage in stages().values()
    }
    return create_model("Study", __base__=Study, **fields)


def parse_study(
    document: Mapping[str, Any], *, source: str, places: Mapping[str, str] | None = None
) -> Study:
    """Validate a document.

    Args:
        document: As read from a sweep file, overrides applied.
        source: What to call it in a message, usually the file's path.
        places: Where a dotted key was written, such as `sweep.yaml:7`; `source` where unknown.

    Raises:
        UserError: An unknown key, a wrong type, an impossible value; it names the key, the value
            and the nearest valid name.
    """
    # A stage named without parameters (`cka:`) runs with its defaults, one set to false not at all.
    filled = {
        key: {} if value is None and key in stages() else value
        for key, value in document.items()
        if not (value is False and key in stages())
    }
    try:
        study = study_model().model_validate(filled)
    except ValidationError as error:
        raise _user_error(error, source, places or {}) from error
    _refuse_missing_inputs(study, source)
    return study


def _refuse_missing_inputs(study: Study, source: str) -> None:
    present = study.stage_parameters()
    for name in present:
        for needed in stages()[name].reads:
            if needed not in present:
                raise UserError(
                    f"the stage '{name}' reads '{needed}', which the study does not run",
                    where=f"{source}: {name}",
                    do=f"add a key '{needed}:', or leave '{name}' out: {name}=false",
                )
    if not present:
        raise UserError("the study runs no stage", where=source, do="add a key 'train:'")


def _user_error(error: ValidationError, source: str, places: Mapping[str, str]) -> UserError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    keys = [part for part in path if not part.isdigit()]
    place = places.get(".".join(keys), source)
    others = f"; {error.error_count() - 1} more below it" if error.error_count() > 1 else ""
    return UserError(
        f"{_sentence(first)}{others}", where=f"{place}: {'.'.join(path)}", do=_remedy(first)
    )


def _sentence(details: Any) -> str:
    kind, value = details["type"], details["input"]
    if kind == "extra_forbidden":
        return f"unknown key '{details['loc'][-1]}'"
    if kind == "missing":
        return f"the key '{details['loc'][-1]}' is missing"
    message = details["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return message if kind == "value_error" else f"{message}, but it is {value!r}"


def _remedy(details: Any) -> str:
    if details["type"] == "extra_forbidden":
        return nearest(str(details["loc"][-1]), _fields_at(details["loc"][:-1]))
    if details["type"] == "list_type":
        return f"write [{details['input']}]"
    return ""


def _fields_at(path: tuple[int | str, ...]) -> list[str]:
    model: type[Parameters] = study_model()
    for part in path:
        if part == "resources":
            model = Request
        elif part == "axes":
            model = Axes
        elif part == "data":
            model = Data
        elif str(part) in stages():
            model = stages()[str(part)].parameters if model is not Request else Request
    return list(model.model_fields)
