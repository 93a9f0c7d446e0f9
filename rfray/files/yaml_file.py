"""YAML files: `1e-4` is a number, no key may be there twice, and the line of every key is known."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from rfray.errors import UserError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with YAML 1.2 floats; it refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key '{key}' is there twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# In YAML 1.1, which PyYAML reads, 1e-4 is a string; in YAML 1.2 it is a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def parse_value(text: str, where: str) -> Any:
    """The value of a YAML text, such as `[0, 1]` or `1e-4`; UserError if it is not YAML."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (the loader is a SafeLoader)
    except yaml.YAMLError as error:
        raise UserError(_problem(error), where=where) from error


def read_mapping(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """A YAML file's top mapping, and the line of each dotted key and list entry in it.

    Raises:
        UserError: The file cannot be read, is not YAML, or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise UserError(f"cannot read the file: {reason}", where=str(path)) from error
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 (the loader is a SafeLoader)
        tree = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"is not YAML: {_problem(error)}", where=f"{path}{line}") from error
    if document is None:
        raise UserError("the file is empty", where=str(path))
    if not isinstance(document, dict):
        raise UserError(f"holds a {type(document).__name__}, not keys with values", where=str(path))
    return document, _lines(tree, "")


def _problem(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or error)


def _lines(node: Any, prefix: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    entries: list[tuple[str, Any, Any]] = []
    if isinstance(node, yaml.MappingNode):
        entries = [(key.value, key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        entries = [(str(place), entry, entry) for place, entry in enumerate(node.value)]
    for name, marked, value in entries:
        lines[prefix + name] = marked.start_mark.line + 1
        lines |= _lines(value, f"{prefix}{name}.")
    return lines
