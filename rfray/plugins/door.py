"""Plug-ins: stages, networks, data sets and knobs from outside the package.

An installed package offers them by entry points of the groups `rfray.stages`, `rfray.networks`,
`rfray.datasets` and `rfray.knobs`. A file that a sweep file lists under `plugins` offers its
`STAGE` and its `SOURCE`, as rfray's own modules do, and the entries of its dictionaries `NETWORKS`
and `KNOBS`, by name. Each registry has a `Shelf` here, where it looks for names that it does not
have itself.

Plug-in files are sent to a worker as text, with its job. A package must be installed there; the
digest of its code says whether it is the same.
"""

import importlib.util
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial, update_wrapper
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Literal, TypeVar

from rfray import __version__
from rfray.errors import UserError
from rfray.plugins.user_code import in_a_line, line_within, module_of, text_digest, tree_digest

Kind = Literal["stages", "networks", "datasets", "knobs"]
"""The kinds of plug-ins: the groups of entry points without `rfray.`."""

_ONE: Mapping[Kind, str] = {
    "stages": "stage",
    "networks": "network",
    "datasets": "data set",
    "knobs": "knob",
}

T = TypeVar("T")


# Plug-in files


class _InUse:
    """The plug-in files of the study that this process works on: (path, text) of each."""

    files: tuple[tuple[str, str], ...] = ()


def read_plugin_files(names: Iterable[str], folders: Sequence[Path]) -> dict[str, str]:
    """The texts of plug-in files, by their paths.

    Args:
        names: As the sweep file lists them.
        folders: Where to look for them, in this order.

    Raises:
        UserError: A file does not exist, or is not text.
    """
    texts = {}
    for name in names:
        places = (folder / Path(name).expanduser() for folder in folders)
        found = next((place.resolve() for place in places if place.is_file()), None)
        if found is None:
            where = " or ".join(dict.fromkeys(str(folder.resolve()) for folder in folders))
            raise UserError(f"there is no file '{name}' in {where}", where="plugins")
        try:
            texts[str(found)] = found.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot be read: {in_a_line(error)}", where=str(found)) from error
    return texts


NAMING = "its name may have only letters, digits, '_', '.' and '-'"
"""What is wrong with a name that is not `nameable`."""


def nameable(name: str) -> bool:
    """Whether a name can be a value of an axis, and so a part of names of runs and files."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) is not None


def use_plugin_files(texts: Mapping[str, str]) -> None:
    """Have this process use the plug-ins of these files: texts by paths."""
    _InUse.files = tuple(texts.items())


def plugin_files_in_use() -> dict[str, str]:
    """The texts of the plug-in files in use, by their paths."""
    return dict(_InUse.files)


class ByPlugins(Generic[T]):
    """`functools.cache` for a function of no arguments whose result depends on the plug-ins."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._made: Any = cache(lambda _plugins: make())
        update_wrapper(self, make)

    def __call__(self) -> T:
        """The result for the plug-ins in use now."""
        made: T = self._made((_InUse.files, tuple(sys.path)))
        return made

    def cache_clear(self) -> None:
        """Compute it again at the next call."""
        self._made.cache_clear()


# What is offered


@dataclass(frozen=True)
class Plugin:
    """One stage, network, data set or knob from outside.

    Attributes:
        kind: Which of these it is.
        name: Its name in sweep files.
        source: Who offers it: `my-norms 1.0`, or a file's path.
        problem: Why it cannot be used, if that is known without running its code; else empty.
        load: Runs its code and returns the object; may raise anything.
        root: Returns the file, or the folder of the package, that contains its code.
        text: For a plug-in file: its code, because the file may be on another machine.
    """

    kind: Kind
    name: str
    source: str
    problem: str
    load: Callable[[], Any]
    root: Callable[[], Path]
    text: str | None = None

    @property
    def from_file(self) -> bool:
        """Whether it comes from a file that the study lists."""
        return self.text is not None

    @property
    def code(self) -> str:
        """Digest of its code: of its file, or of all Python files of its package.

        Data files of the package are not part of it.
        """
        return tree_digest(self.root()) if self.text is None else text_digest(self.text)

    def __str__(self) -> str:
        """Its name in messages."""
        return f"the {_ONE[self.kind]} '{self.name}' of {self.source}"

    def refused(self, problem: str) -> UserError:
        """The error that it cannot be used, with its name."""
        remedy = "repair it" if self.from_file else f"repair it, or uninstall {self.source}"
        return UserError(problem, where=str(self), do=remedy)

    def get(self) -> Any:
        """The object itself.

        Raises:
            UserError: It has a `problem`, or its code raises something.
        """
        if self.problem:
            raise self.refused(self.problem)
        with self.telling("it"):
            return self.load()

    def _line_of(self, error: BaseException) -> str:
        """The line of its own code that raised an error; empty if it is not known."""
        try:
            return line_within(self.root(), error)
        except UserError:
            return ""

    @contextmanager
    def telling(self, what: str) -> Iterator[None]:
        """Turn what its code raises into a UserError. `what` is what runs, such as `net(10)`."""
        try:
            yield
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # a user's code may raise anything
            line = self._line_of(error)
            place = f" ({line})" if line else ""
            raise self.refused(f"{what} raises {in_a_line(error)}{place}") from error


@dataclass(frozen=True)
class Shelf(Generic[T]):
    """The plug-ins of one registry.

    Attributes:
        kind: Kind of its plug-ins.
        own: Names that the registry has itself; no plug-in may have one of them.
        unfit: Says, for a name and an object, why it cannot be used, in words that follow the name;
            None if it can.
    """

    kind: Kind
    own: Callable[[], Collection[str]]
    unfit: Callable[[str, Any], str | None]

    def offers(self) -> tuple[Plugin, ...]:
        """All plug-ins of this kind, those of files first. Two may have the same name."""
        return _offers(self.kind, _InUse.files, tuple(sys.path))

    def plugins(self) -> dict[str, Plugin]:
        """The plug-ins by name. If two have the same name, the first one counts."""
        taken = self.own()
        first: dict[str, Plugin] = {}
        for plugin in self.offers():
            if plugin.name not in taken:
                first.setdefault(plugin.name, plugin)
        return first

    def get(self, name: str) -> T:
        """The object of that name.

        Raises:
            UserError: It cannot be used.
            KeyError: There is no plug-in of that name.
        """
        plugin = self.plugins()[name]
        thing: T = plugin.get()
        problem = self.unfit(name, thing)
        if problem is not None:
            raise plugin.refused(problem)
        return thing

    def code(self, name: str) -> str:
        """Digest of the code of a plug-in; empty if there is none of that name."""
        plugin = self.plugins().get(name)
        return plugin.code if plugin else ""

    def at_once(self, plugin: Plugin) -> UserError | None:
        """What is wrong with a plug-in, if that is known without running its code."""
        holder = self.plugins().get(plugin.name)
        if holder is not plugin:
            return plugin.refused(f"its name is taken by {holder.source if holder else 'rfray'}")
        return plugin.refused(plugin.problem) if plugin.problem else None

    def verdict(self, plugin: Plugin) -> UserError | None:
        """What is wrong with a plug-in; None if nothing is. Runs its code."""
        known = self.at_once(plugin)
        if known is not None:
            return known
        try:
            self.get(plugin.name)
        except UserError as error:
            return error
        return None


@cache
def _offers(
    kind: Kind, files: tuple[tuple[str, str], ...], search_path: tuple[str, ...]
) -> tuple[Plugin, ...]:
    in_files = (one for path, text in files for one in _of_file(kind, Path(path), text))
    return (*in_files, *_of_packages(kind, search_path))


def _of_file(kind: Kind, path: Path, text: str) -> Iterator[Plugin]:
    for name, thing in _things(kind, module_of(text, path), path):
        yield Plugin(
            kind=kind,
            name=name,
            source=str(path),
            problem="",
            load=partial(_itself, thing),
            root=partial(_itself, path),
            text=text,
        )


def _things(kind: Kind, module: ModuleType, path: Path) -> Iterator[tuple[str, Any]]:
    """(name, object) of each plug-in of one kind in a file."""
    variable = {"stages": "STAGE", "datasets": "SOURCE"}.get(kind, kind.upper())
    offered = getattr(module, variable, None)
    if offered is None:
        return
    if kind in ("networks", "knobs"):
        if not isinstance(offered, Mapping) or not all(isinstance(name, str) for name in offered):
            raise UserError(
                f"{variable} is a {type(offered).__name__}, not a dictionary of names",
                where=str(path),
                do=f'write {variable} = {{"my_name": my_function}}',
            )
        yield from offered.items()
        return
    named = offered if kind == "stages" else getattr(offered, "facts", None)
    name = getattr(named, "name", None)
    if not isinstance(name, str):
        raise UserError(
            f"{variable} is a {type(offered).__name__}, not a {_ONE[kind]}", where=str(path)
        )
    yield name, offered


# Installed packages


def _of_packages(kind: Kind, search_path: tuple[str, ...]) -> Iterator[Plugin]:
    points = _entry_points(search_path)[kind]
    for point in sorted(points, key=lambda one: (one.name, one.value)):
        owner = point.dist
        yield Plugin(
            kind=kind,
            name=point.name,
            source=f"{owner.name} {owner.version}" if owner else point.value,
            problem=_needs_another_rfray(owner) if owner else "",
            load=point.load,
            root=partial(package_root, point.module),
        )


@cache
def _entry_points(_search_path: tuple[str, ...]) -> Mapping[Kind, Sequence[EntryPoint]]:
    found = entry_points()
    return {kind: tuple(found.select(group=f"rfray.{kind}")) for kind in _ONE}


def _needs_another_rfray(owner: Distribution) -> str:
    """Which version of rfray a package needs, if not this one; else empty."""
    from packaging.requirements import InvalidRequirement, Requirement

    for line in owner.requires or ():
        try:
            needed = Requirement(line)
        except InvalidRequirement:
            continue
        if needed.name != "rfray" or (needed.marker and not needed.marker.evaluate({"extra": ""})):
            continue
        if not needed.specifier.contains(__version__, prereleases=True):
            return f"needs rfray {needed.specifier}, but this is rfray {__version__}"
    return ""


def package_root(module: str) -> Path:
    """The folder of the package that contains a module, or the module's file if none does.

    Raises:
        UserError: There is no such module.
    """
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        spec = importlib.util.find_spec(".".join(parts[:count]))
        if spec is None:
            break
        if spec.origin is not None:  # a namespace package has none, and may belong to several
            file = Path(spec.origin)
            return file.parent if spec.submodule_search_locations else file
    raise UserError(f"there is no module '{module}'", where="plug-ins")


def _itself(thing: T) -> T:
    return thing
