"""Finding a sweep file, reading it, and applying `key=value` overrides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import deepcopy
from itertools import accumulate
from pathlib import Path
from typing import Any

from rfray.errors import UserError, nearest
from rfray.study import Study, parse_study
from rfray.yaml_file import parse_value, read_mapping

DEFAULT_SWEEP = "quickstart"
SWEEP_VARIABLE = "RFRAY_SWEEP"


def load_study(sweep: str | None, overrides: Sequence[str] = ()) -> Study:
    """The study of a sweep file with overrides applied.

    Args:
        sweep: A path, or the name of a shipped file; None takes RFRAY_SWEEP, else `quickstart`.
        overrides: Such as `axes.seed=[0,1]` or `train.epochs=5`.

    Raises:
        UserError: The file is not there or is no valid study, or an override is malformed.
    """
    path = find_sweep(sweep or os.environ.get(SWEEP_VARIABLE) or DEFAULT_SWEEP)
    document, lines = read_mapping(path)
    places = {key: f"{path}:{line}" for key, line in lines.items()}
    for override in overrides:
        document = overridden(document, override)
        key = override.partition("=")[0]
        # The error may be of a key on the way, as where there is none of that name.
        prefixes = accumulate(key.split("."), lambda path, part: f"{path}.{part}")
        places |= {path: "command line" for path in prefixes if path not in places or path == key}
    return parse_study(document, source=str(path), places=places)


def find_sweep(name: str) -> Path:
    """The sweep file that `name` means: a path, or a shipped file's name without `.yaml`."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = {file.stem: file for file in shipped_folder("sweeps").glob("*.yaml")}
    if name in shipped:
        return shipped[name]
    if path.suffix or len(path.parts) > 1:
        raise UserError("there is no such sweep file", where=name, do=nearest(path.stem, shipped))
    raise UserError(f"no sweep is called '{name}'", do=nearest(name, shipped))


def shipped_folder(kind: str) -> Path:
    """Folder of the files that come with rfray: `sweeps` or `analysis`.

    They lie beside the package in a checkout, and inside it in an installed wheel.
    """
    package = Path(__file__).resolve().parent
    inside = package / "shipped" / kind
    return inside if inside.is_dir() else package.parent / kind


def overridden(document: dict[str, Any], override: str) -> dict[str, Any]:
    """`document` with one `dotted.key=value` set; the value is YAML.

    Raises:
        UserError: There is no `=`, no key, or the key leads through a value that has no keys.
    """
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UserError(f"'{override}' is no override", do="write key=value, as in train.epochs=5")
    changed = deepcopy(document)
    place = changed
    for part in parts[:-1]:
        if place.get(part) is None:
            place[part] = {}
        place = place[part]
        if not isinstance(place, dict):
            raise UserError(f"'{part}' has a value and no keys of its own", where=override)
    place[parts[-1]] = parse_value(text, where=override)
    return changed
