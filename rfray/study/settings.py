"""Every setting by its dotted name: what may be an axis, of which type, and what may not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, NoneType
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, Field
from pydantic.fields import FieldInfo

from rfray.cell import OF_THE_STUDY, Cell
from rfray.data.registry import naming_problem as dataset_problem
from rfray.errors import nearest
from rfray.models.registry import naming_problem as network_problem
from rfray.plugins import ByPlugins
from rfray.stages.registry import stages

ASKED = "receptive_field"
"""The setting that has each knob turned until its network comes nearest to a receptive field."""

TURNS = ("kernel_size", "strength", ASKED)
"""The settings that say how far a knob is turned: a study has one of them."""

_OF_A_CELL = tuple(name for name in Cell.model_fields if name not in OF_THE_STUDY)

CELL_SETTINGS = (*_OF_A_CELL, ASKED)
"""The settings that make a network and what it sees, which bear no stage's name."""


@dataclass(frozen=True)
class Setting:
    """Something that a study chooses.

    Attributes:
        name: `kernel_size`, or dotted: `train.learning_rate`.
        type: The type of one value, with its bounds, as pydantic reads it.
        description: What it is, for a reader.
    """

    name: str
    type: Any
    description: str

    @property
    def stage(self) -> str | None:
        """The stage whose setting it is; None for one of the cell's."""
        stage, dot, _ = self.name.partition(".")
        return stage if dot else None

    @property
    def leaf(self) -> str:
        """Its name without the stage's."""
        return self.name.rpartition(".")[2]


def _known_dataset(name: str) -> str:
    problem = dataset_problem(name)
    if problem is not None:
        raise ValueError(problem)
    return name


def _known_network(name: str) -> str:
    problem = network_problem(name)
    if problem is not None:
        raise ValueError(problem)
    return name


_ASKED = Setting(
    ASKED,
    Annotated[int, Field(ge=1)],
    "At the last convolution, in pixels, in place of kernel_size: each knob is turned to the "
    "strength that comes nearest.",
)

_CHECKS = {"dataset": AfterValidator(_known_dataset), "arch": AfterValidator(_known_network)}


@ByPlugins
def settings() -> Mapping[str, Setting]:
    """Every setting that may be an axis, by name: the cell's, then each stage's.

    A list that fans a stage out, such as prune's rates, is an axis already and is not among them,
    nor is what a search does.
    """
    found = [
        Setting(name, _said(_value_type(field, _CHECKS.get(name))), field.description or "")
        for name, field in ((name, Cell.model_fields[name]) for name in _OF_A_CELL)
    ]
    found.append(_ASKED)
    for stage in stages().values():
        if stage.scope in ("sample", "search"):
            continue  # what chooses settings is none itself
        fanned = stage.fan.parameter if stage.fan else None
        found += [
            Setting(f"{stage.name}.{name}", _value_type(field, None), field.description or "")
            for name, field in stage.parameters.model_fields.items()
            if name != fanned
        ]
    return MappingProxyType({setting.name: setting for setting in found})


def advice(name: str) -> str:
    """What to write instead of `name`, which is no setting that may be an axis."""
    stage, _, leaf = name.partition(".")
    declared = stages().get(stage)
    if declared is not None and declared.fan is not None and leaf == declared.fan.parameter:
        return f"it is a list already: write {name} outside of axes"
    if stage in ("data", "resources", "name", "search"):
        return "it is the same for the whole study: write it outside of axes"
    alike = [known for known in settings() if known.rpartition(".")[2] == name]
    if alike:
        return f"did you mean '{alike[0]}'?"
    words = nearest(name, settings())
    return words if words.startswith("did") else "`rfray reference` lists every setting"


def _value_type(field: FieldInfo, check: Any) -> Any:
    metadata = [*field.metadata, *([check] if check else [])]
    return Annotated[(field.annotation, *metadata)] if metadata else field.annotation


def _said(annotation: Any) -> Any:
    """The type of what is said, where a field of the cell may be left unsaid."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    return kinds[0] if len(kinds) == 1 and NoneType in get_args(annotation) else annotation


def one_of(value_type: Any) -> Any:
    """The type of one value or a list of them."""
    return value_type | Annotated[list[value_type], Field(min_length=1)]
