"""Every data set by its name: rfray's own, torchvision's, and those of plugins."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from rfray.data import array_sets, digits, image_folder, tiny_imagenet, torchvision_reader
from rfray.data.dataset import DatasetSource
from rfray.data.facts import REFUSED, SETS
from rfray.data.folders import noted_findings, prepared_file, prepared_notes
from rfray.data.resized import resized
from rfray.errors import UserError, nearest
from rfray.plugins import NAMING, Shelf, nameable

SIZE_MARK = "@"
"""Separates a data set's name and the size that its pictures are scaled to: `cifar10@64`."""

FIXED: Mapping[str, DatasetSource] = {
    "digits": digits.SOURCE,
    **array_sets.SOURCES,
    "tiny_imagenet": tiny_imagenet.SOURCE,
    # By the names of torchvision's classes.
    "CIFAR10": array_sets.SOURCES["cifar10"],
    "CIFAR100": array_sets.SOURCES["cifar100"],
}
"""The sources whose facts are known without reading a file."""

DATASETS: Mapping[str, Callable[[int | None], DatasetSource]] = {
    **{name: partial(resized, source) for name, source in FIXED.items()},
    "imagefolder": image_folder.source,
    **{name: partial(torchvision_reader.source, known) for name, known in SETS.items()},
}
"""Makes each source, at an image size or, with None, at its own size.

Only for `imagefolder` and torchvision's sets it reads files: their facts come from their files.
"""


def _unfit(name: str, thing: Any) -> str | None:
    """Why an object of a plugin is not a data set of this name; None if it is one."""
    if not isinstance(thing, DatasetSource):
        return f"is a {type(thing).__name__}, not a rfray.data.dataset.DatasetSource"
    if thing.facts.name != name:
        return f"has the name '{thing.facts.name}' in its facts"
    return None if nameable(name) else NAMING


OUTSIDE: Shelf[DatasetSource] = Shelf("datasets", lambda: {*DATASETS, *REFUSED}, _unfit)
"""Data sets of plugins."""


def dataset_source(name: str) -> DatasetSource:
    """The registered data set called `name`, which may end with a size, such as `cifar10@64`.

    Raises:
        UserError: There is none, with the nearest name or the reason why rfray cannot use it; or
            its facts come from its files and these cannot be read.
    """
    problem = naming_problem(name)
    if problem is not None:
        raise UserError(problem, where="axes.dataset")
    base, image_size = _parts(name)
    if base in DATASETS:
        return DATASETS[base](image_size)
    return resized(_outside_source(base), image_size)


def dataset_findings(name: str) -> tuple[str, ...]:
    """What a user should know about a data set's pictures, one sentence each.

    The findings in its facts, and those in its prepared copy, if there is one.

    Raises:
        UserError: See `dataset_source`.
    """
    facts = dataset_source(name).facts
    noted = noted_findings(prepared_file(facts.fingerprint))
    return tuple(dict.fromkeys((*facts.findings, *noted)))


def refuse_unreadable(names: Iterable[str]) -> None:
    """Prepare data sets that are not prepared yet; of the others only the header is read.

    Raises:
        UserError: Files of a data set are missing, damaged or not the published ones.
    """
    for name in names:
        source = dataset_source(name)
        if prepared_notes(prepared_file(source.facts.fingerprint)) is None:
            from rfray.data.cache import prepared  # imports PyTorch

            prepared(source)


def naming_problem(name: str) -> str | None:
    """What is wrong with a data set's name, and what to do about it; None if nothing is."""
    base, mark, size = name.partition(SIZE_MARK)
    if base in REFUSED:
        return f"torchvision's {base} {REFUSED[base]}"
    if base not in DATASETS and base not in OUTSIDE.plugins():
        advice = nearest(base, (*DATASETS, *OUTSIDE.plugins()))
        return f"no data set is called '{base}' ({advice})"
    if mark and (not size.isdecimal() or int(size) == 0):
        return f"'{name}' has no size in pixels (write '{base}{SIZE_MARK}64')"
    return None


def at_size(name: str, image_size: int | None) -> str:
    """The name of a data set at a size; a size in the name has priority, its own is left out."""
    base, own_size = _parts(name)
    size = own_size or image_size
    if size is None or size == _size_before_reading(base):
        return base
    return f"{base}{SIZE_MARK}{size}"


def _size_before_reading(base: str) -> int | None:
    """The size of a data set's pictures, if it is known without its files."""
    if base in FIXED:
        return FIXED[base].facts.image_size
    return OUTSIDE.get(base).facts.image_size if base in OUTSIDE.plugins() else None


def _outside_source(base: str) -> DatasetSource:
    """A data set of a plugin; a digest of its code is in its fingerprint, and so in all keys."""
    source = OUTSIDE.get(base)
    fingerprint = f"{source.facts.fingerprint}-{OUTSIDE.code(base)}"
    return replace(source, facts=replace(source.facts, fingerprint=fingerprint))


def _parts(name: str) -> tuple[str, int | None]:
    base, _, size = name.partition(SIZE_MARK)
    return base, int(size) if size else None
