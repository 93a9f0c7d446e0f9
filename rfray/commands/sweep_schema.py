"""The sweep file described for editors (JSON schema) and for readers (a Markdown page).

Both are generated from the typed study and the typed parameters of its stages.
"""

import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from rfray.cell import Cell
from rfray.data.registry import DATASETS, OUTSIDE
from rfray.models.libraries import LIBRARIES
from rfray.models.outside import OUTSIDE as NETWORKS
from rfray.models.registry import ARCHITECTURES
from rfray.parameters import Parameters
from rfray.search.space import Domain
from rfray.stages.registry import sections
from rfray.study import ChosenLayers, Data, Knobs, Request, study_model
from rfray.study.naming import TRAIN
from rfray.study.settings import CELL_SETTINGS, TURNS, settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_INTRODUCTION = """\
# The sweep file

A sweep file is YAML. This page lists all keys of rfray {version}. It is generated from the types
that check the file (`rfray reference`); `rfray schema` prints the same as a JSON schema, with which
editors complete and check. Unknown keys, wrong types and impossible values are refused before
anything starts. On the command line you can change every value: `axes.seed=[0,1] train.epochs=5`.

A stage runs if its key is there; `cka:` alone runs it with its defaults, `hessian: false` leaves it
out. `keep: [train, finetune]` lists the stages whose weights `rfray clean` keeps; the default is
`[train]` ([storage](storage.md)). `plugins: [my_stage.py]` lists files with your own stage,
networks, data set or knobs ([how](extending.md#what-can-be-brought-from-outside)).
"""

_AXES = """\
What the sweep varies. Every combination is a cell. Any setting of a stage may be an axis too, by
its dotted name: `train.learning_rate: [0.1, 0.01]`. A setting of `train` gives more networks. A
setting of another stage gives more runs of that stage and of the stages that read it."""

_GRID = """\
## `zip`, `exclude`, `when`

```yaml
zip: [{arch: vgg19_rf, width: 0.5}, {arch: resnet50, width: 1}]
exclude: [{arch: resnet50, kernel_size: [4, 5]}]
when: [{if: {dataset: tiny_imagenet}, set: {train.epochs: 100}}]
```

`zip` varies several settings together: each entry has one value of each setting. `exclude` leaves
out the combinations that match every setting of an entry; a list matches each of its values. `when`
gives some cells other settings; the other cells keep the settings of the stage. `rfray plan` shows
the settings of each cell.
"""


def sweep_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a sweep file, with the names of networks and stages.

    The names of data sets are examples and not a complete list, because a name may end in an image
    size: `cifar10@64`.
    """
    schema = study_model().model_json_schema()
    schema["$schema"] = DIALECT
    schema["title"] = "rfray sweep file"
    for name in sections():
        # `cka:` alone is null in YAML and is allowed already; `cka: false` leaves the stage out.
        schema["properties"][name]["anyOf"].append({"const": False})
    axes = schema["$defs"]["Axes"]["properties"]
    for name in axes:
        # Only the list: null, which removes an axis, is for the command line.
        (values,) = (one for one in axes[name]["anyOf"] if "items" in one)
        axes[name] = {"description": axes[name].get("description", ""), **values}
    axes["arch"]["items"]["anyOf"] = [
        {"enum": sorted((*ARCHITECTURES, *NETWORKS.plugins()))},
        *({"pattern": rf"^{library}:\w+$"} for library in LIBRARIES),
        {"pattern": r"\.py:\w+$"},
    ]
    axes["dataset"]["items"]["examples"] = sorted((*DATASETS, *OUTSIDE.plugins()))
    searchable = [name for name in settings() if name.startswith(f"{TRAIN}.")]
    schema["$defs"]["SearchParameters"]["properties"]["space"]["propertyNames"] = {
        "enum": searchable
    }
    schema["properties"]["resources"]["propertyNames"] = {"enum": list(sections())}
    return schema


def reference_page(version: str) -> str:
    """The sweep file's keys as a Markdown page: type, default and meaning of each."""
    parts = [_INTRODUCTION.format(version=version), _axes_section(), _GRID]
    for stage in sections().values():
        about = (stage.parameters.__doc__ or "").strip().splitlines()[0]
        parts.append(
            _section(f"`{stage.name}`", f"{about} Result: {stage.summary}.", stage.parameters)
        )
    parts += [
        _section("`search.space.SETTING`", Domain.__doc__ or "", Domain),
        _section("`data`", Data.__doc__ or "", Data),
        _section("`knobs`", Knobs.__doc__ or "", Knobs),
        _section("`knobs.dilation`", ChosenLayers.__doc__ or "", ChosenLayers),
        _section("`resources.STAGE`", f"{Request.__doc__} Not part of any key.", Request),
    ]
    return "\n".join(parts)


def _axes_section() -> str:
    lines = ["## `axes`\n", f"{_AXES}\n", "| key | type | default | meaning |", "|---|---|---|---|"]
    for name in CELL_SETTINGS:
        kind = f"list of {_type_words(settings()[name].type)}"
        lines.append(
            f"| `{name}` | {kind} | {_axis_default(name)} | {settings()[name].description} |"
        )
    return "\n".join([*lines, ""])


def _axis_default(name: str) -> str:
    if name in TURNS:
        return "one of " + ", ".join(f"`{one}`" for one in TURNS)
    field = Cell.model_fields[name]
    return "required" if field.is_required() else f"`[{_yaml_words(field.default)}]`"


def _section(title: str, about: str, model: type[Parameters]) -> str:
    return "\n".join([f"## {title}\n", f"{about}\n", *_table(model), ""])


def _table(model: type[Parameters]) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        cells = (
            f"`{name}`",
            _type_words(field.annotation),
            _default(field),
            field.description or "",
        )
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return f"`{_yaml_words(field.get_default(call_default_factory=True))}`"


def _yaml_words(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(_yaml_words, value))}]" if isinstance(value, list) else str(value)


_WORDS = {
    ChosenLayers: "keys as below",
    int: "integer",
    float: "number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    Any: "values",
}


def _type_words(annotation: Any) -> str:
    """A Python type in words for a reader of YAML."""
    if annotation in _WORDS:
        return _WORDS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return "key for each setting"
    if origin is list:
        return f"list of {_type_words(arguments[0])}"
    if origin in (Union, types.UnionType):
        return " or ".join(_type_words(one) for one in arguments)
    if origin is not None and hasattr(annotation, "__metadata__"):
        return _type_words(arguments[0])
    return " or ".join(f"`{one}`" for one in arguments)
