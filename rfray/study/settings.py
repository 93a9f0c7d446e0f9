"""Every setting by its dotted name: its type, and whether it may be an axis."""

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
from rfray.parameters import refusing
from rfray.plugins import ByPlugins
from rfray.stages.registry import stages

ASKED = "receptive_field"
"""The setting that asks for a receptive field: each knob is turned to the nearest one."""

TURNS = ("kernel_size", "strength", ASKED)
"""The settings that say how far a knob is turned. A study has exactly one of them."""

_OF_A_CELL = tuple(name for name in Cell.model_fields if name not in OF_THE_STUDY)

CELL_SETTINGS = (*_OF_A_CELL, ASKED)
"""The settings that determine the network and its data. Their names have no stage in front."""


@dataclass(frozen=True)
class Setting:
    """One value that a study chooses.

    Attributes:
        name: `kernel_size`, or dotted: `train.learning_rate`.
        type: The type of one value with its bounds, for pydantic.
        description: What it means.
    """

    name: str
    type: Any
    description: str


_ASKED = Setting(
    ASKED,
    Annotated[int, Field(ge=1)],
    "At the last convolution, in pixels, instead of kernel_size: each knob is turned to the "
    "strength with the nearest receptive field.",
)

_CHECKS = {
    "dataset": AfterValidator(refusing(dataset_problem)),
    "arch": AfterValidator(refusing(network_problem)),
}


@ByPlugins
def settings() -> Mapping[str, Setting]:
    """Every setting that may be an axis, by name: those of the cell, then those of each stage.

    Not among them: the settings of a search, and a list that already gives a stage several runs,
    such as the rates of prune.
    """
    found = [
        Setting(name, _said(_value_type(field, _CHECKS.get(name))), field.description or "")
        for name, field in ((name, Cell.model_fields[name]) for name in _OF_A_CELL)
    ]
    found.append(_ASKED)
    for stage in stages().values():
        if stage.scope in ("sample", "search"):
            continue
        fanned = stage.fan.parameter if stage.fan else None
        found += [
            Setting(f"{stage.name}.{name}", _value_type(field), field.description or "")
            for name, field in stage.parameters.model_fields.items()
            if name != fanned
        ]
    return MappingProxyType({setting.name: setting for setting in found})


def advice(name: str) -> str:
    """What to write instead of `name`, which may not be an axis."""
    stage, _, leaf = name.partition(".")
    declared = stages().get(stage)
    if declared is not None and declared.fan is not None and leaf == declared.fan.parameter:
        return f"it is a list already: write {name} outside axes"
    if stage in ("data", "resources", "name", "search"):
        return "it is the same for the whole study: write it outside axes"
    alike = [known for known in settings() if known.rpartition(".")[2] == name]
    if alike:
        return f"did you mean '{alike[0]}'?"
    words = nearest(name, settings())
    return words if words.startswith("did") else "`rfray reference` lists every setting"


def _value_type(field: FieldInfo, check: Any = None) -> Any:
    metadata = [*field.metadata, *([check] if check else [])]
    return Annotated[(field.annotation, *metadata)] if metadata else field.annotation


def _said(annotation: Any) -> Any:
    """The type without None, which a field of the cell has where it may be left out."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    return kinds[0] if len(kinds) == 1 and NoneType in get_args(annotation) else annotation
