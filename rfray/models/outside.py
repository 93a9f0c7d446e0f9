"""Networks that come from outside: torchvision's by name, and functions in files.

`torchvision:resnet18` is torchvision's function of that name, without trained weights.
`my_nets.py:small_net` is a function in a file that takes the number of classes and gives a
`torch.nn.Module`; its path starts at the sweep file or at the working directory. Either is read
into a description (`rfray.models.traced`) and taken as it is, with its own initialisation.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rfray.errors import UserError, nearest
from rfray.models.network import Network, Origin

if TYPE_CHECKING:
    from torch import Tensor, nn

TORCHVISION = "torchvision:"
"""What names of torchvision's networks begin with."""

AS_IT_IS = 1
"""The kernel_size, and the width, of a network from outside: no pool is added, none is widened."""

_INCEPTION = {"aux_logits": False, "init_weights": True}

_TORCHVISION_SETTINGS: Mapping[str, Mapping[str, bool]] = {
    # Without the heads that help in training alone: a network here gives one vector.
    "googlenet": _INCEPTION,
    "inception_v3": _INCEPTION,
}

_FOLDERS = "RFRAY_NETWORKS"
_FILE_MARK = ".py:"

Maker = Callable[[int], "nn.Module"]
"""From a number of classes to a freshly initialised module."""


def comes_from_outside(name: str) -> bool:
    """Whether a network's name says that it comes from outside."""
    return ":" in name


def naming_problem(name: str) -> str | None:
    """What is wrong with the name of a network from outside, and what to do; None if nothing is.

    Files are looked for, not run.
    """
    if name.startswith(TORCHVISION):
        return _torchvision_problem(name.removeprefix(TORCHVISION))
    if _FILE_MARK not in name:
        return f"'{name}' names no network (write torchvision:resnet18 or my_nets.py:small_net)"
    path, _, function = name.rpartition(":")
    if not function.isidentifier():
        return f"'{name}' names no function (write {path}:small_net)"
    if _found(path) is None:
        places = " or ".join(dict.fromkeys(str(folder) for folder in _folders()))
        return f"there is no file '{path}' in {places}"
    return None


def use_network_folders(folders: Iterable[Path]) -> None:
    """Have this process, and those that it starts, look for files of networks in these folders."""
    os.environ[_FOLDERS] = os.pathsep.join(str(folder.resolve()) for folder in folders)


def network_folders_in_use() -> list[str]:
    """The folders in which files of networks are looked for, first to last."""
    return [str(folder) for folder in _folders()]


def code_digest(name: str) -> str:
    """What tells the code of a network from outside from other code: it enters the keys.

    Of the file that its function is in. Empty for a network that is rfray's own.

    Raises:
        UserError: There is no such network.
    """
    if not comes_from_outside(name):
        return ""
    _refuse_misnamed(name)
    if name.startswith(TORCHVISION):
        return _torchvision_code(name.removeprefix(TORCHVISION))
    path, _, function = name.rpartition(":")
    return f"{function}-{_file_digest(_file(path))}"


def outside_network(name: str, kernel_size: int, width: float, classes: int) -> Network:
    """The description of a network from outside.

    Args:
        name: As in `axes.arch`.
        kernel_size: `AS_IT_IS`.
        width: `AS_IT_IS`.
        classes: Number of logits.

    Raises:
        UserError: There is none, its code raises, it cannot be read, or it is to be changed.
    """
    for setting, value in (("kernel_size", kernel_size), ("width", width)):
        if value != AS_IT_IS:
            raise UserError(
                f"{setting} is {value}, but a network from outside is taken as it is",
                where=name,
                do=f"set {setting} to {AS_IT_IS} for it",
            )
    return _described(name, code_digest(name), classes)


@cache
def _described(name: str, code: str, classes: int) -> Network:
    import torch

    from rfray.models.traced import read

    make = _maker(name)
    with torch.random.fork_rng(devices=[]):
        layers = read(make(classes), name)

    def initial() -> Mapping[str, Tensor]:
        drawn: Mapping[str, Tensor] = make(classes).state_dict()
        return drawn

    return Network(layers, Origin(code, initial))


def _maker(name: str) -> Maker:
    if name.startswith(TORCHVISION):
        return _torchvision_maker(name.removeprefix(TORCHVISION))
    path, _, function = name.rpartition(":")
    return _file_maker(_file(path), function)


def _refuse_misnamed(name: str) -> None:
    problem = naming_problem(name)
    if problem is not None:
        raise UserError(problem, where="axes.arch")


# torchvision


@cache
def _torchvision_problem(name: str) -> str | None:
    from torchvision import models

    known = models.list_models(module=models)
    if name in known:
        return None
    advice = nearest(f"{TORCHVISION}{name}", (f"{TORCHVISION}{one}" for one in known))
    return f"torchvision has no classification network '{name}' ({advice})"


def _torchvision_maker(name: str) -> Maker:
    from torchvision import models

    builder, settings = models.get_model_builder(name), _TORCHVISION_SETTINGS.get(name, {})
    return lambda classes: builder(weights=None, num_classes=classes, **settings)


@cache
def _torchvision_code(name: str) -> str:
    from torchvision import models

    builder = inspect.unwrap(models.get_model_builder(name))
    return f"{name}-{_file_digest(Path(inspect.getfile(builder)))}"


# Functions in files


def _folders() -> list[Path]:
    named = os.environ.get(_FOLDERS, "")
    return [Path(folder) for folder in named.split(os.pathsep) if folder] or [Path.cwd()]


def _found(path: str) -> Path | None:
    places = (folder / Path(path).expanduser() for folder in _folders())
    return next((place.resolve() for place in places if place.is_file()), None)


def _file(path: str) -> Path:
    found = _found(path)
    if found is None:
        raise UserError(f"there is no file '{path}'", where="axes.arch")
    return found


def _file_digest(path: Path) -> str:
    state = path.stat()
    return _digest_of(path, state.st_mtime_ns, state.st_size)


@cache
def _digest_of(path: Path, _changed: int, _size: int) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _file_maker(path: Path, function: str) -> Maker:
    loaded = _loaded(path, _file_digest(path))
    make = getattr(loaded, function, None)
    if not callable(make):
        names = [
            name
            for name, one in vars(loaded).items()
            if inspect.isfunction(one) and one.__module__ == loaded.__name__
        ]
        advice = nearest(function, names) if names else "it has no function at all"
        raise UserError(f"has no function '{function}'", where=str(path), do=advice)

    def made(classes: int) -> nn.Module:
        from torch import nn

        with _told_of_the_users_line(path, f"{function}({classes})"):
            module = make(classes)
        if not isinstance(module, nn.Module):
            given = "nothing" if module is None else f"a {type(module).__name__}"
            raise UserError(
                f"{function}({classes}) gives {given}, not a torch.nn.Module", where=str(path)
            )
        return module

    return made


@cache
def _loaded(path: Path, digest: str) -> ModuleType:
    name = f"rfray_network_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError("is no Python file", where=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as an import does: dataclasses and pickles look there
    sys.path.insert(0, str(path.parent))
    try:
        with _told_of_the_users_line(path, "it"):
            spec.loader.exec_module(module)
    except UserError:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


@contextmanager
def _told_of_the_users_line(path: Path, what: str) -> Iterator[None]:
    """What the code of a file raises, in one line with the file's line."""
    try:
        yield
    except Exception as error:  # a user's code may raise anything
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename) == path
        ]
        line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
        where = f"{path}:{line}" if line else str(path)
        raise UserError(f"{what} raises {type(error).__name__}: {error}", where=where) from error
