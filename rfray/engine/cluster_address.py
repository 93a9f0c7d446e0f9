"""Which Ray cluster a sweep is to join, and who said so."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from rfray.errors import UserError
from rfray.terminal import chatter

VARIABLE = "RAY_ADDRESS"

_HERE = "local"
_ANY_HERE = "auto"
_LAST_PORT = 65535


@dataclass(frozen=True)
class ClusterAddress:
    """The address of a cluster as somebody gave it.

    Attributes:
        text: HOST:PORT, `auto` for this machine's cluster, or an address of Ray Client, `ray://…`.
        where: Where it was given, for a message: `--address …` or `RAY_ADDRESS=…`.
        without: What to do to go without it.
    """

    text: str
    where: str
    without: str

    @property
    def is_client(self) -> bool:
        """Whether a proxy is to be asked, which speaks another protocol than a cluster's head."""
        return "://" in self.text

    def refusal(self, what: str, do: str = "") -> UserError:
        """The error that says what is wrong with this address; `do` is how to mend it."""
        return UserError(what, where=self.where, do=do or self.without)


def chosen_address(option: str | None, environment: Mapping[str, str]) -> ClusterAddress | None:
    """The cluster that the user means; None if Ray is to start on this machine.

    As with Ray's own commands, RAY_ADDRESS says which cluster `auto` is.

    Args:
        option: What `--address` says; None if it was not given.
        environment: Of this process.
    """
    variable = environment.get(VARIABLE)
    if variable and option in (None, "", _ANY_HERE):
        without = f"unset {VARIABLE} to start Ray here"
        chosen = ClusterAddress(variable, f"{VARIABLE}={variable}", without)
    elif option:
        chosen = ClusterAddress(
            option, f"--address {option}", "leave --address out to start Ray here"
        )
    else:
        return None
    return None if chosen.text == _HERE else chosen


def host_and_port(address: ClusterAddress) -> str:
    """The HOST:PORT of the cluster's head, found as Ray itself finds it.

    Raises:
        UserError: It is no such address, or no cluster runs on this machine.
    """
    if address.text != _ANY_HERE and not _names_host_and_port(address.text):
        raise address.refusal("no address of a Ray cluster", "write HOST:PORT, or auto")
    from ray._private import services

    # Ray warns where it finds several clusters, and takes the one that was started last.
    logging.getLogger("ray").setLevel(chatter.level(logging.ERROR))
    try:
        # Which clusters run here is remembered from an earlier look.
        services.find_gcs_addresses.cache_clear()
        found: str = services.canonicalize_bootstrap_address(address.text)
    except ConnectionError as error:
        raise address.refusal(
            "no Ray cluster runs on this machine",
            f"start one with `ray start --head`, or {address.without}",
        ) from error
    return found


def _names_host_and_port(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) <= _LAST_PORT
