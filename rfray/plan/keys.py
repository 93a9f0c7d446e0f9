"""Content keys: equal work has an equal key, in every study and on every machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rfray.parameters import Parameters

_DIGEST_BYTES = 16


def digest(content: Any) -> str:
    """Hexadecimal digest (32 characters) of plain data, dataclasses and parameters.

    Fields at their default are left out. So a new field with a default does not change the keys of
    finished work.

    Raises:
        TypeError: `content` holds something that has no canonical form.
    """
    text = json.dumps(_canonical(content), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _canonical(content: Any) -> Any:
    match content:
        case None | bool() | int() | str():
            return content
        case float():
            return int(content) if content.is_integer() else content
        case Parameters():
            return _canonical(content.model_dump(exclude_defaults=True))
        case Mapping():
            return {str(key): _canonical(value) for key, value in content.items()}
        case Sequence():
            return [_canonical(value) for value in content]
    if dataclasses.is_dataclass(content):
        changed = {
            field.name: getattr(content, field.name)
            for field in dataclasses.fields(content)
            if getattr(content, field.name) != field.default
        }
        return [type(content).__name__, _canonical(changed)]
    raise TypeError(f"a {type(content).__name__} has no canonical form")
