"""Files of a user's code: their digests, their modules, and their errors in one line."""

import hashlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

from rfray.errors import UserError

_DIGEST_BYTES = 16


def text_digest(text: str | bytes) -> str:
    """Hexadecimal digest (32 characters) of code."""
    content = text.encode() if isinstance(text, str) else text
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()


def file_digest(path: Path) -> str:
    """Digest of a file. A file that has not changed is not read again."""
    state = path.stat()
    return _digest_of(path, state.st_mtime_ns, state.st_size)


@cache
def _digest_of(path: Path, _changed: int, _size: int) -> str:
    return text_digest(path.read_bytes())


@cache
def module_of(text: str, path: Path) -> ModuleType:
    """The module of a file's text, executed once. The file itself need not exist here.

    Raises:
        UserError: The code raises something; the message names the line.
    """
    name = f"rfray_file_{path.stem}_{text_digest(text)}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # as an import does: dataclasses and pickles look there
    try:
        with told_of_the_users_line(path, "it"):
            exec(compile(text, path, "exec", dont_inherit=True), vars(module))  # noqa: S102
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def importable_from(folder: Path) -> Iterator[None]:
    """Have `import` find the modules in a folder."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@contextmanager
def told_of_the_users_line(path: Path, what: str) -> Iterator[None]:
    """Turn what the code of a file raises into a UserError that names the line.

    Args:
        path: The file.
        what: What runs; the message is "`what` raises …".
    """
    try:
        yield
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        where = line_within(path, error) or str(path)
        raise UserError(f"{what} raises {in_a_line(error)}", where=where) from error


def line_within(root: Path, error: BaseException) -> str:
    """The last line in an error's traceback that is in a file, or in the files of a folder.

    Returns:
        `FILE:LINE`; empty if there is none.
    """
    if isinstance(error, SyntaxError) and error.filename and _within(root, error.filename):
        return f"{error.filename}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if _within(root, frame.filename)
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _within(root: Path, file: str) -> bool:
    return Path(file) == root or root in Path(file).parents


def tree_digest(root: Path) -> str:
    """Digest of a file, or of all Python files below a folder with their relative paths."""
    if root.is_file():
        return file_digest(root)
    files = sorted(root.rglob("*.py"))
    return text_digest("\n".join(f"{one.relative_to(root)} {file_digest(one)}" for one in files))


def in_a_line(error: BaseException) -> str:
    """An exception's type and the first line of its message."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
