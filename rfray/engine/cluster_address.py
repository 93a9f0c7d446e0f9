"""The address of the Ray cluster that a sweep joins, and where it was given."""

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
    """The address of a cluster as the user gave it.

    Attributes:
        text: HOST:PORT, `auto` for this machine's cluster, or an address of Ray Client, `ray://…`.
        where: Where it was given, for messages: `--address …` or `RAY_ADDRESS=…`.
        without: How to run without this cluster, for messages.
    """

    text: str
    where: str
    without: str

    @property
    def is_client(self) -> bool:
        """Whether it is an address of Ray Client, which has another protocol than the head."""
        return "://" in self.text

    def refusal(self, what: str, do: str = "") -> UserError:
        """The error that says what is wrong with this address; `do` is what to do about it."""
        return UserError(what, where=self.where, do=do or self.without)


def chosen_address(option: str | None, environment: Mapping[str, str]) -> ClusterAddress | None:
    """The cluster to join, from the option `--address` and the environment variables.

    None if Ray is to start on this machine. As for Ray's own commands, `auto` is the cluster in
    RAY_ADDRESS, if that is set.
    """
    variable = environment.get(VARIABLE)
    if variable and option in (None, "", _ANY_HERE):
        text, where, without = variable, f"{VARIABLE}={variable}", f"unset {VARIABLE}"
    else:
        text, where, without = option or _HERE, f"--address {option}", "leave --address out"
    return None if text == _HERE else ClusterAddress(text, where, f"{without} to start Ray here")


def host_and_port(address: ClusterAddress) -> str:
    """The HOST:PORT of the cluster's head, found as Ray itself finds it.

    Raises:
        UserError: The address is not valid, or no cluster runs on this machine.
    """
    if address.text != _ANY_HERE and not _names_host_and_port(address.text):
        raise address.refusal("not an address of a Ray cluster", "write HOST:PORT, or auto")
    from ray._private import services

    # If there are several clusters, Ray takes the one that was started last, and warns.
    logging.getLogger("ray").setLevel(chatter.level(logging.ERROR))
    try:
        # Ray caches which clusters run here.
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
