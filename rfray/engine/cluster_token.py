"""The token for a Ray cluster, from the same places where Ray looks for it.

https://docs.ray.io/en/latest/ray-security/token-auth.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rfray.errors import UserError

VARIABLE = "RAY_AUTH_TOKEN"
PATH_VARIABLE = "RAY_AUTH_TOKEN_PATH"


@dataclass(frozen=True)
class Token:
    """A token, and where it was found.

    Attributes:
        text: The secret; no message and no repr shows it.
        source: The name of a variable or the path of a file.
    """

    text: str = field(repr=False)
    source: str


def token_at_hand(environment: Mapping[str, str]) -> Token | None:
    """The token that Ray would send, from the environment variables of this process.

    Returns:
        The token of RAY_AUTH_TOKEN, else of the file in RAY_AUTH_TOKEN_PATH, else of the file
        `~/.ray/auth_token`; None if there is none.

    Raises:
        UserError: A file cannot be read, the file in RAY_AUTH_TOKEN_PATH has no token, or the token
            has characters that cannot be sent.
    """
    token = _first_found(environment)
    if token is None or (token.text.isascii() and token.text.isprintable()):
        return token
    raise UserError(
        "has characters that no token has",
        where=token.source,
        do="copy the token again from the cluster's head: `ray get-auth-token` prints it there",
    )


def _first_found(environment: Mapping[str, str]) -> Token | None:
    variable, path = environment.get(VARIABLE, "").strip(), environment.get(PATH_VARIABLE)
    if variable:
        return Token(variable, VARIABLE)
    if path:
        where = f"{PATH_VARIABLE}={path}"
        another = f"name the file that holds the token, or unset {PATH_VARIABLE}"
        text = _first_line(Path(path), where, another)  # like Ray, which does not expand ~ here
        if not text:
            what = "its first line is empty, so there is no token"
            raise UserError(what, where=where, do=another)
        return Token(text, where)
    home = environment.get("HOME")
    default = Path(home, ".ray", "auth_token") if home else None
    if default is None or not _is_there(default):
        return None
    text = _first_line(default, str(default), f"make it readable, or set {VARIABLE}")
    return Token(text, str(default)) if text else None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # no permission for the folder: reading the file gives the error message
        return True


def _first_line(path: Path, where: str, do: str) -> str:
    try:
        lines = path.read_bytes().decode(errors="replace").splitlines()
    except OSError as error:
        what = f"Ray's token cannot be read: {error.strerror}"
        raise UserError(what, where=where, do=do) from error
    return lines[0].strip() if lines else ""
