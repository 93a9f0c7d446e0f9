"""A study: the sweep file as typed, validated data."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    create_model,
    field_validator,
)

from rfray import grid
from rfray.cell import Cell
from rfray.data.amount import amount_problem
from rfray.data.background import colour_problem
from rfray.data.registry import at_size
from rfray.errors import UserError, in_words, nearest
from rfray.grid import Grid, Point
from rfray.models.outside import AS_IT_IS, has_one_width
from rfray.parameters import NOTHING_TWICE, Parameters, refusing
from rfray.plugins import ByPlugins
from rfray.stages.registry import sections, stages
from rfray.stages.search import DrawnSearch
from rfray.study.naming import SAMPLE, SEARCH, TRAIN
from rfray.study.settings import settings

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _in_seconds(value: Any) -> Any:
    """The seconds of a text such as `90m`; any other value unchanged."""
    duration = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smhd])", value) if isinstance(value, str) else None
    return float(duration[1]) * _SECONDS[duration[2]] if duration else value


Duration = Annotated[
    float, BeforeValidator(_in_seconds, json_schema_input_type=float | str), Field(gt=0)
]
"""Seconds, written as a number or as `90m`, `2h`, `1d`."""


AUTO = "auto"
"""A value of `resources.train.gpus`: the share of a GPU that the first cells were seen to need."""


def _a_share(value: Any) -> Any:
    """A number from 0 on, or auto. For other values pydantic's own message would be long."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and value != AUTO and not (number and value >= 0):
        raise ValueError(f"a share of a GPU is a number such as 0.25 or 1, or auto, not {value!r}")
    if number and value > 1 and value != int(value):
        raise ValueError(f"more than one GPU must be a whole number, not {value:g} (give 1, 2, …)")
    return value


Share = Annotated[Annotated[float, Field(ge=0)] | Literal["auto"], BeforeValidator(_a_share)]
"""A share of a GPU, or a number of GPUs."""


class Request(Parameters):
    """What one run of a stage occupies, and how long and how often it may run."""

    cpus: Annotated[float, Field(gt=0)] = Field(
        default=1, description="CPU cores; PyTorch uses the same number of threads, at least one."
    )
    gpus: Share | None = Field(
        default=None,
        description="Share of a GPU. If the cluster has GPUs, null means 1 for train and 0.25 for "
        "the other stages, else 0. auto (train only): the first cell of each kind gets a whole "
        "GPU, the next ones get the share that it used. 2 or more (train only): that many GPUs of "
        "one machine train each network together.",
    )
    memory: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="Main memory to reserve, in bytes; null reserves none."
    )
    time_limit: Duration | None = Field(
        default=None,
        description="Time after which a run that has not ended counts as failed, in seconds or as "
        "90m or 2h; null sets no limit.",
    )
    retries: Annotated[int, Field(ge=0)] = Field(
        default=2,
        description="How often a run is started again after its process or its machine is lost.",
    )
    checkpoint_every: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="Epochs between two checkpoints of train and finetune. An interrupted run "
        "repeats fewer epochs than that.",
    )


HeldOut = Annotated[
    Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)],
    BeforeValidator(refusing(amount_problem)),
]
"""A number of images, or a share of them."""


class ChosenLayers(Parameters):
    """Which layers a knob turns."""

    layers: Annotated[list[str], Field(min_length=1), NOTHING_TWICE] = Field(
        description="Convolutions, by name, by the part of the network that contains them (stage3, "
        "layer4.1), or by pattern (*_conv2)."
    )


class Knobs(Parameters):
    """Which layers the knobs turn, for knobs with a choice."""

    dilation: ChosenLayers | None = Field(
        default=None,
        description="Null turns all convolutions with a kernel larger than 1×1, except the "
        "network's first one.",
    )


class Data(Parameters):
    """Where data sets are (not part of any key), how images are read, what is held out."""

    root: str | None = Field(
        default=None,
        description="Folder of the data sets' files; null takes RFRAY_DATA or ~/.cache/rfray.",
    )
    image_size: Annotated[int, Field(gt=0)] | None = Field(
        default=None,
        description="Height and width in pixels that all images are scaled and cropped to; null "
        "keeps the size of each data set. 'NAME@64' in axes.dataset sets it for one data set.",
    )
    background: Annotated[str, AfterValidator(refusing(colour_problem))] | None = Field(
        default=None,
        description="Colour behind images with transparent parts, such as white or '#808080'; null "
        "refuses such images. It changes the keys of the data sets that have some.",
    )
    validation: HeldOut | None = Field(
        default=None,
        description="Training images to hold out, the same share of each class and the same "
        "images for every cell: a number such as 5000, or a share such as 0.1. Loss and accuracy "
        "on them are measured after each epoch, and `checkpoint: best` chooses by them. It changes "
        "the keys; null holds out none.",
    )


StudyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


_ZIP = (
    "Settings that vary together. An entry has one value of each: "
    "[{arch: vgg19_rf, width: 0.5}, {arch: resnet50, width: 1}]."
)
_EXCLUDE = (
    "Combinations to leave out: those that match every setting of an entry. A list of values "
    "matches each of them: [{arch: resnet50, kernel_size: [4, 5]}]."
)
_WHEN = (
    "Other settings for some cells: [{if: {dataset: tiny_imagenet}, set: {train.epochs: 100}}]. "
    "The other cells keep the settings of the stage."
)


class Study(Parameters):
    """A sweep file: axes, protocol, the stages that follow training, resources."""

    name: StudyName = Field(description="Name of the study, and of its MLflow experiment.")
    axes: Parameters
    zip: list[Any] = []
    exclude: list[Any] = []
    when: list[Any] = []
    data: Data = Field(
        default=Data(),
        description="Where data sets are, how their images are read, and what is held out.",
    )
    knobs: Knobs = Field(default=Knobs(), description="Which layers the knobs in axes.knob turn.")
    resources: dict[str, Request] = Field(
        default={}, description="What one run of a stage occupies, by the stage's name."
    )
    keep: list[str] = Field(
        default=[TRAIN],
        description="Stages whose weights `rfray clean` keeps. It may delete the weights of other "
        "stages once all runs that read them are done. Numbers always stay.",
    )
    plugins: list[str] = Field(
        default=[],
        description="Python files with your own stage, networks, data set or knobs. They are "
        "next to the sweep file or in the working directory.",
    )

    @field_validator("resources")
    @classmethod
    def _known_stages(cls, resources: dict[str, Request]) -> dict[str, Request]:
        for name, request in resources.items():
            if name not in sections():
                raise ValueError(f"no stage is called '{name}' ({nearest(name, sections())})")
            if request.gpus == AUTO and name != TRAIN:
                raise ValueError(f"{name}.gpus is auto, but only {TRAIN} may be (give a share)")
        return resources

    @field_validator("keep")
    @classmethod
    def _known_kept(cls, keep: list[str]) -> list[str]:
        for name in keep:
            if name not in stages():
                raise ValueError(f"no stage is called '{name}' ({nearest(name, stages())})")
        return keep

    def stage_parameters(self) -> Mapping[str, Parameters]:
        """The parameters of every stage that the study runs, in the order of the graph."""
        present = {name: getattr(self, name) for name in sections()}
        if self.search_drawn is not None:
            present[SAMPLE] = present[TRAIN]
        return {name: present[name] for name in stages() if present.get(name) is not None}

    @property
    def dilated(self) -> tuple[str, ...]:
        """Names and patterns of the layers that the knob `dilation` turns; empty: its default."""
        chosen = self.knobs.dilation
        return tuple(chosen.layers) if chosen else ()

    @property
    def search_drawn(self) -> DrawnSearch | None:
        """The search with its samples; None where the study has none."""
        search: DrawnSearch | None = getattr(self, SEARCH, None)
        return search

    @property
    def searched(self) -> tuple[str, ...]:
        """The settings that are searched, by their dotted names."""
        return tuple(self.search_drawn.space) if self.search_drawn else ()

    def request(self, stage: str) -> Request:
        """What one run of `stage` occupies; a sample trains, so it occupies what train does."""
        return self.resources.get(TRAIN if stage == SAMPLE else stage, Request())

    @property
    def grid(self) -> Grid:
        """What varies. Names of data sets include the image size.

        If the study has one width, only rfray's own networks get it: others have a fixed width.
        """
        return _with_own_widths(self._written_grid())

    def _written_grid(self) -> Grid:
        rules = [(_given(getattr(rule, "if")), _given(rule.set)) for rule in self.when]
        return Grid(
            axes=self._axes(),
            zipped=[self._sized(_given(entry)) for entry in self.zip],
            excluded=[self._condition(_given(entry)) for entry in self.exclude],
            when=[
                grid.When(self._condition(condition), self._sized(set_to))
                for condition, set_to in rules
            ],
            usual={name: self._usual(name) for _, set_to in rules for name in set_to},
        )

    def points(self) -> list[Point]:
        """Every combination of the axes that is not excluded, with the settings from `when`."""
        return grid.points(self.grid)

    def parameters_at(self, stage: str, point: Point) -> Parameters:
        """A stage's parameters at a point of the grid.

        Raises:
            UserError: They contradict each other.
        """
        usual: Parameters = getattr(self, stage)
        split = ((name.partition("."), value) for name, value in point.items())
        own = {setting: value for (of, _, setting), value in split if setting and of == stage}
        if not own:
            return usual
        try:
            return type(usual).model_validate({**usual.model_dump(), **own})
        except ValidationError as error:
            where = ", ".join(f"{name} {value}" for name, value in point.items() if "." in name)
            raise UserError(in_words(error.errors()[0]), where=f"{self.name}: {where}") from error

    def document(self) -> dict[str, Any]:
        """The study as JSON-ready data, with every default, and data sets with their image size."""
        document = self.model_dump(mode="json", exclude_none=True)
        if self.search_drawn is not None:
            document[SEARCH]["drawn"] = self.search_drawn.drawn
            if self.search_drawn.proposed:
                document[SEARCH]["planned_samples"] = self.search_drawn.proposed[-1].stop
            for name in self.searched:  # a searched setting has no value that all runs share
                stage, _, leaf = name.partition(".")
                document[stage].pop(leaf, None)
        varied = self.grid
        conditions = [{"if": rule.condition, "set": rule.settings} for rule in varied.when]
        sections: dict[str, Sequence[Any]] = {
            "zip": varied.zipped,
            "exclude": varied.excluded,
            "when": conditions,
            "plugins": self.plugins,
        }
        written = {name: section for name, section in sections.items() if section}
        others = {name: value for name, value in document.items() if name not in sections}
        return {**others, "axes": dict(varied.axes), **written}

    def _axes(self) -> dict[str, list[Any]]:
        given = _given(self.axes)
        if not any("width" in entry.model_fields_set for entry in self.zip):
            given.setdefault("width", [1.0])
        ordered = {name: given[name] for name in settings() if given.get(name) is not None}
        sized = self._sized(ordered)
        if "dataset" in sized:
            # With image_size 64, cifar10 and cifar10@64 are the same data set.
            sized["dataset"] = list(dict.fromkeys(sized["dataset"]))
        return sized

    def _sized(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        """The same values of settings, but names of data sets include the image size."""
        if "dataset" not in choice:
            return dict(choice)
        named, size = choice["dataset"], self.data.image_size
        listed = isinstance(named, list)
        sized = [at_size(name, size) for name in named] if listed else at_size(named, size)
        return {**choice, "dataset": sized}

    def _condition(self, given: Mapping[str, Any]) -> dict[str, list[Any]]:
        sized = self._sized(given).items()
        return {name: value if isinstance(value, list) else [value] for name, value in sized}

    def _usual(self, name: str) -> Any:
        """The value of a setting where neither an axis nor `when` sets it."""
        if name in Cell.model_fields:
            return Cell.model_fields[name].get_default()
        stage, _, setting = name.rpartition(".")
        return getattr(getattr(self, stage, None), setting, None)


def _with_own_widths(written: Grid) -> Grid:
    """The grid with its only width limited to the networks whose width can change."""
    widths = written.axes.get("width", ())
    entries = ([entry["arch"]] for entry in written.zipped if "arch" in entry)
    archs = dict.fromkeys(chain(written.axes.get("arch", ()), *entries))
    of_one = [arch for arch in archs if has_one_width(arch)]
    if not of_one or len(widths) != 1 or widths[0] == AS_IT_IS:
        return written
    axes = {name: values for name, values in written.axes.items() if name != "width"}
    others = [arch for arch in archs if arch not in of_one]
    if not others:
        return replace(written, axes={**axes, "width": [float(AS_IT_IS)]})
    rules = [
        grid.When({"arch": of_one}, {"width": float(AS_IT_IS)}),
        grid.When({"arch": others}, {"width": widths[0]}),
    ]
    return replace(written, axes=axes, when=[*written.when, *rules])


def _given(model: BaseModel) -> dict[str, Any]:
    """The keys that the user wrote, with their values."""
    return model.model_dump(exclude_unset=True)


@ByPlugins
def study_model() -> type[Study]:
    """`Study` with a field for each registered stage, and axes for the settings of each."""
    axes = _keyed("Axes", "What the sweep varies: every combination is a cell.", _listed)
    choice: Any = _keyed("Choice", "One value for each of some settings.", lambda kind: kind)
    about = "A value, or a list of values, for each of some settings."
    condition: Any = _keyed("Condition", about, _one_or_several)
    of_when: dict[str, Any] = {
        "if": (condition, Field(description="Which cells: values of axes.")),
        "set": (choice, Field(description="Their settings, by name.")),
    }
    about = "Settings that some cells get and others do not."
    when: Any = create_model("When", __base__=Parameters, __doc__=about, **of_when)
    fields: dict[str, Any] = {
        stage.name: (stage.parameters | None, Field(default=None, description=stage.summary))
        for stage in sections().values()
    }
    fields |= {
        "axes": (axes, Field(description="A list of values for each setting that varies.")),
        "zip": (list[choice], Field(default=[], description=_ZIP)),
        "exclude": (list[condition], Field(default=[], description=_EXCLUDE)),
        "when": (list[when], Field(default=[], description=_WHEN)),
    }
    return create_model("Study", __base__=Study, **fields)


def _keyed(name: str, about: str, type_of: Callable[[Any], Any]) -> type[Parameters]:
    """A model whose keys are the names of settings, each of which may be left out."""
    fields: dict[str, Any] = {
        key: (type_of(setting.type), Field(default=None, description=setting.description))
        for key, setting in settings().items()
    }
    return create_model(name, __base__=Parameters, __doc__=about, **fields)


def _listed(value: Any) -> Any:
    return Annotated[list[value], Field(min_length=1), NOTHING_TWICE] | None


def _one_or_several(value: Any) -> Any:
    return value | Annotated[list[value], Field(min_length=1)]
