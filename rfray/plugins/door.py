"""The one door for what comes from outside: stages, networks, data sets and knobs.

A package that is installed offers them by entry points of the groups `rfray.stages`,
`rfray.networks`, `rfray.datasets` and `rfray.knobs`. A file that a sweep file lists under `plugins`
offers its `STAGE` and its `SOURCE`, as rfray's own modules do, and by name what its dictionaries
`NETWORKS` and `KNOBS` hold. Each registry has a `Shelf` here, and looks there for what it does not
have itself.

Files reach a worker as text, with its job. A package must be installed there; the digest of its
code tells whether it is the same.
"""

from __future__ import annotations

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
"""What can be brought from outside: the groups of entry points without `rfray.`."""

_ONE: Mapping[Kind, str] = {
    "stages": "stage",
    "networks": "network",
    "datasets": "data set",
    "knobs": "knob",
}

T = TypeVar("T")


# Plug-in files


class _InUse:
    """The plug-in files of the study that this process works on: their texts by their paths."""

    files: tuple[tuple[str, str], ...] = ()


def read_plugin_files(names: Iterable[str], folders: Sequence[Path]) -> dict[str, str]:
    """The texts of plug-in files, by their paths.

    Args:
        names: As the sweep file lists them.
        folders: Where they are looked for, first to last.

    Raises:
        UserError: One is not there, or is no text.
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


NAMING = "its name is to be of letters, digits, '_', '.' and '-'"
"""What is wrong with a name that is not `nameable`."""


def nameable(name: str) -> bool:
    """Whether a name can stand in an axis, and so in names of runs and files."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) is not None


def use_plugin_files(texts: Mapping[str, str]) -> None:
    """Have this process look for plug-ins in these files: texts by paths; none if empty."""
    _InUse.files = tuple(texts.items())


def plugin_files_in_use() -> dict[str, str]:
    """The texts of the plug-in files that are looked at, by their paths."""
    return dict(_InUse.files)


class ByPlugins(Generic[T]):
    """`functools.cache` for a function of no arguments whose result depends on the plug-ins."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._made: Any = cache(lambda _plugins: make())
        update_wrapper(self, make)

    def __call__(self) -> T:
        """What was made for the plug-ins that there are now."""
        made: T = self._made((_InUse.files, tuple(sys.path)))
        return made

    def cache_clear(self) -> None:
        """Have it made anew."""
        self._made.cache_clear()


# What is offered


@dataclass(frozen=True)
class Plugin:
    """One thing that is offered from outside.

    Attributes:
        kind: What it is.
        name: What it is called in sweep files.
        source: Who offers it: `my-norms 1.0`, or a file's path.
        problem: Why it cannot be used, as far as that is known without running it; else empty.
        load: Runs its code and gives the thing itself; may raise anything.
        root: Gives the file, or the folder of the package, that its code is in.
        text: The code itself, of one from a file: it may lie on another machine.
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
        """Whether the study itself lists it."""
        return self.text is not None

    @property
    def code(self) -> str:
        """Digest of its code: of its file, or of all Python files of its package.

        Data that lie beside the code are not in it.
        """
        return tree_digest(self.root()) if self.text is None else text_digest(self.text)

    def __str__(self) -> str:
        """What a message calls it."""
        return f"the {_ONE[self.kind]} '{self.name}' of {self.source}"

    def refused(self, problem: str) -> UserError:
        """That it cannot be used, in one line that names it."""
        remedy = "mend it" if self.from_file else f"mend it, or uninstall {self.source}"
        return UserError(problem, where=str(self), do=remedy)

    def get(self) -> Any:
        """The thing itself.

        Raises:
            UserError: Its code raises something, or `problem` says why not.
        """
        if self.problem:
            raise self.refused(self.problem)
        with self.telling("it"):
            return self.load()

    def _line_of(self, error: BaseException) -> str:
        """The line of its own code that raised an error; empty if there is none, or no code."""
        try:
            return line_within(self.root(), error)
        except UserError:
            return ""

    @contextmanager
    def telling(self, what: str) -> Iterator[None]:
        """What its code raises, in one line that names it; `what` is run, such as `net(10)`."""
        try:
            yield
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # somebody's code may raise anything
            line = self._line_of(error)
            place = f" ({line})" if line else ""
            raise self.refused(f"{what} raises {in_a_line(error)}{place}") from error


@dataclass(frozen=True)
class Shelf(Generic[T]):
    """What one registry may take from outside.

    Attributes:
        kind: Of its things.
        own: Names that the registry has itself: nothing from outside may bear them.
        unfit: What makes something that is offered under a name unfit, in words that follow its
            name; None if nothing does.
    """

    kind: Kind
    own: Callable[[], Collection[str]]
    unfit: Callable[[str, Any], str | None]

    def offers(self) -> tuple[Plugin, ...]:
        """All that there is from outside, those of files first; one's name may be another's."""
        return _offers(self.kind, _InUse.files, tuple(sys.path))

    def plugins(self) -> dict[str, Plugin]:
        """What is on the shelf by name: nothing whose name was taken before."""
        taken = self.own()
        first: dict[str, Plugin] = {}
        for plugin in self.offers():
            if plugin.name not in taken:
                first.setdefault(plugin.name, plugin)
        return first

    def get(self, name: str) -> T:
        """The thing itself.

        Raises:
            UserError: It cannot be used; one line names it and says why.
            KeyError: There is none.
        """
        plugin = self.plugins()[name]
        thing: T = plugin.get()
        problem = self.unfit(name, thing)
        if problem is not None:
            raise plugin.refused(problem)
        return thing

    def code(self, name: str) -> str:
        """Digest of the code of what is on the shelf; empty if there is nothing of that name."""
        plugin = self.plugins().get(name)
        return plugin.code if plugin else ""

    def at_once(self, plugin: Plugin) -> UserError | None:
        """What is wrong with an offer, as far as that is known without running its code."""
        holder = self.plugins().get(plugin.name)
        if holder is not plugin:
            return plugin.refused(f"its name is taken by {holder.source if holder else 'rfray'}")
        return plugin.refused(plugin.problem) if plugin.problem else None

    def verdict(self, plugin: Plugin) -> UserError | None:
        """What is wrong with an offer; None if nothing is. Runs its code."""
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
    """What a file offers of one kind, by name."""
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
    """Which rfray a package needs, where it is not this one; empty if it goes with this one."""
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
    """The folder of the package that a module belongs to, or its own file if it is in none.

    Raises:
        UserError: There is no such module.
    """
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        spec = importlib.util.find_spec(".".join(parts[:count]))
        if spec is None:
            break
        if spec.origin is not None:  # a namespace has none: its packages are other people's, too
            file = Path(spec.origin)
            return file.parent if spec.submodule_search_locations else file
    raise UserError(f"there is no module '{module}'", where="plug-ins")


def _itself(thing: T) -> T:
    return thing
