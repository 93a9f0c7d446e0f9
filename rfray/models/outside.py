"""Networks that are not rfray's own: of libraries, of functions in files, and of plug-ins.

`torchvision:resnet18` and `timm:resnet18` are networks of these libraries, without pretrained
weights. `my_nets.py:small_net` is a function in a file that makes a `torch.nn.Module` from the
number of classes; its path starts at the sweep file or at the working directory. Any other name
that is not one of rfray's own is that of a plug-in (`rfray.plugins`). All are read into a
description (`rfray.models.traced`) or, if that is impossible, kept as modules
(`rfray.models.opaque`). They are not changed and have their own initialisation. A plug-in may also
be a function of kernel_size, width and classes that makes a description, as rfray's own are.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rfray.errors import UserError, nearest
from rfray.models.built_in import ARCHITECTURES
from rfray.models.libraries import LIBRARIES
from rfray.models.network import Network, Origin
from rfray.models.opaque import AnyNetwork
from rfray.plugins import NAMING, Shelf, nameable
from rfray.plugins.user_code import file_digest, importable_from, module_of, told_of_the_users_line

if TYPE_CHECKING:
    from torch import Tensor, nn

AS_IT_IS = 1
"""The kernel_size and the width of such a network: no pool is added, and its width stays."""


def _unfit(name: str, thing: Any) -> str | None:
    """Why an object of a plugin is not a network of this name; None if it may be one."""
    if not callable(thing):
        return f"is a {type(thing).__name__}, not a function"
    return None if nameable(name) else NAMING


OUTSIDE: Shelf[Callable[..., Any]] = Shelf("networks", lambda: ARCHITECTURES, _unfit)
"""Networks of plug-ins."""

_FOLDERS = "RFRAY_NETWORKS"
_FILE_MARK = ".py:"

Maker = Callable[[int], "nn.Module"]
"""Makes a newly initialised module from a number of classes."""


def comes_from_outside(name: str) -> bool:
    """Whether a network's name is that of a library, a file or a plug-in."""
    return ":" in name or (name not in ARCHITECTURES and name in OUTSIDE.plugins())


def has_one_width(name: str) -> bool:
    """Whether a network's name alone says that its width cannot change."""
    return ":" in name


def naming_problem(name: str) -> str | None:
    """What is wrong with the name of such a network, and what to do; None if nothing is.

    Files are searched, but not run.
    """
    if ":" not in name:
        return None
    before, _, behind = name.partition(":")
    if before in LIBRARIES:
        return LIBRARIES[before].problem(behind)
    if _FILE_MARK not in name:
        return f"'{name}' is not a network (write torchvision:resnet18 or my_nets.py:small_net)"
    path, _, function = name.rpartition(":")
    if not function.isidentifier():
        return f"'{name}' has no name of a function (write {path}:small_net)"
    if _found(path) is None:
        places = " or ".join(dict.fromkeys(str(folder) for folder in _folders()))
        return f"there is no file '{path}' in {places}"
    return None


def use_network_folders(folders: Iterable[Path]) -> None:
    """Set the folders in which this process, and those that it starts, search files of networks."""
    os.environ[_FOLDERS] = os.pathsep.join(str(folder.resolve()) for folder in folders)


def network_folders_in_use() -> list[str]:
    """The folders in which files of networks are searched, in this order."""
    return [str(folder) for folder in _folders()]


def code_digest(name: str) -> str:
    """A text that identifies the code of a network that is not rfray's own; it is part of keys.

    It contains a digest of the file of its function, or of the package that offers it. Empty for
    rfray's own networks.

    Raises:
        UserError: There is no such network.
    """
    if not comes_from_outside(name):
        return ""
    if ":" not in name:
        return f"{name}-{OUTSIDE.code(name)}"
    _refuse_misnamed(name)
    before, _, behind = name.partition(":")
    if before in LIBRARIES:
        return _library_code(before, behind)
    path, _, function = name.rpartition(":")
    return f"{function}-{file_digest(_file(path))}"


def outside_network(name: str, kernel_size: int, width: float, classes: int) -> AnyNetwork:
    """A network that is not rfray's own: its description, or its module if it cannot be read.

    Args:
        name: As in `axes.arch`.
        kernel_size: `AS_IT_IS`, except for a plug-in that takes it.
        width: `AS_IT_IS`, except for a plug-in that takes it.
        classes: Number of logits.

    Raises:
        UserError: There is no such network, its code raises an error, or it cannot be changed.
    """
    code = code_digest(name)
    if ":" not in name and _describes(OUTSIDE.get(name)):
        return _plugin_description(name, code, kernel_size, width, classes)
    for setting, value in (("kernel_size", kernel_size), ("width", width)):
        if value != AS_IT_IS:
            raise UserError(
                f"{setting} is {value}, but this network cannot be changed",
                where=name,
                do=f"set {setting} to {AS_IT_IS} for it",
            )
    return _read(name, code, classes)


@cache
def _read(name: str, code: str, classes: int) -> AnyNetwork:
    import torch

    from rfray.models.opaque_module import opaque_network
    from rfray.models.traced import read

    make = partial(_maker(name), classes)
    with torch.random.fork_rng(devices=[]):
        module = make()
        try:
            layers = read(module, name)
        except UserError as error:
            place = f" ({error.where})" if error.where != name else ""
            return opaque_network(module, make, _whole_code(name, code), f"{error.what}{place}")

    def initial() -> Mapping[str, Tensor]:
        drawn: Mapping[str, Tensor] = make().state_dict()
        return drawn

    return Network(layers, Origin(code, initial))


def _whole_code(name: str, code: str) -> str:
    """The code digest of a network whose layers are not known.

    The code of a library's network is in several files, so the version of the library is added.
    """
    library = LIBRARIES.get(name.partition(":")[0])
    return f"{code}-{version(library.package)}" if library else code


def _maker(name: str) -> Maker:
    if ":" not in name:
        plugin = OUTSIDE.plugins()[name]
        return _checked_maker(OUTSIDE.get(name), name, str(plugin), plugin.telling)
    before, _, behind = name.partition(":")
    if before in LIBRARIES:
        return LIBRARIES[before].maker(behind)
    path, _, function = name.rpartition(":")
    return _file_maker(_file(path), function)


def _refuse_misnamed(name: str) -> None:
    problem = naming_problem(name)
    if problem is not None:
        raise UserError(problem, where="axes.arch")


@cache
def _library_code(library: str, name: str) -> str:
    return LIBRARIES[library].code(name)


# Plug-ins


def _describes(function: Callable[..., Any]) -> bool:
    """Whether a plug-in's function makes a description, as those of rfray's own networks do."""
    try:
        return {"kernel_size", "width", "classes"} <= inspect.signature(function).parameters.keys()
    except ValueError:  # a built-in function has none
        return False


def _plugin_description(
    name: str, code: str, kernel_size: int, width: float, classes: int
) -> Network:
    plugin = OUTSIDE.plugins()[name]
    with plugin.telling(f"{name}(kernel_size={kernel_size}, width={width:g}, classes={classes})"):
        made = OUTSIDE.get(name)(kernel_size=kernel_size, width=width, classes=classes)
    if not isinstance(made, Network):
        raise plugin.refused(f"gives a {type(made).__name__}, not a rfray.models.network.Network")
    return replace(made, origin=Origin(code))


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


def _file_maker(path: Path, function: str) -> Maker:
    with importable_from(path.parent):
        loaded = module_of(_text(path), path)
    make = getattr(loaded, function, None)
    if not callable(make):
        advice = _functions_named_like(function, loaded)
        raise UserError(f"has no function '{function}'", where=str(path), do=advice)
    return _checked_maker(make, function, str(path), partial(told_of_the_users_line, path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("is not a Python file", where=str(path)) from error


def _functions_named_like(function: str, loaded: ModuleType) -> str:
    names = [
        name
        for name, one in vars(loaded).items()
        if inspect.isfunction(one) and one.__module__ == loaded.__name__
    ]
    return nearest(function, names) if names else "it has no function at all"


# What both share


def _checked_maker(
    make: Callable[..., Any],
    called: str,
    where: str,
    telling: Callable[[str], AbstractContextManager[None]],
) -> Maker:
    """A maker that checks that the result is a module."""

    def made(classes: int) -> nn.Module:
        from torch import nn

        call = f"{called}({classes})"
        with telling(call):
            module = make(classes)
        if not isinstance(module, nn.Module):
            given = "nothing" if module is None else f"a {type(module).__name__}"
            raise UserError(f"{call} gives {given}, not a torch.nn.Module", where=where)
        return module

    return made
