"""Joins or starts Ray, without output of Ray, and with errors in one line."""

import logging
import os
import socket
from pathlib import Path
from typing import Any

import ray
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled
from ray.exceptions import AuthenticationError

from rfray.engine.cluster_address import ClusterAddress, chosen_address, host_and_port
from rfray.engine.cluster_probe import Answer, AuthMode, ask, auth_mode
from rfray.engine.cluster_token import token_at_hand
from rfray.errors import UserError, first_line
from rfray.terminal import chatter

_MODE_VARIABLE = "RAY_AUTH_MODE"
_IDLE_MILLISECONDS = 60_000
_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 9.0
"""A head answers within milliseconds, under load within seconds."""


def start_ray(option: str | None) -> None:
    """Join the cluster that `--address` or RAY_ADDRESS names, or start Ray on this machine.

    Args:
        option: The value of `--address`; None if it was not given.

    Raises:
        UserError: The cluster cannot be joined, Ray cannot start here, or this process already
            uses Ray.
    """
    if ray.is_initialized():  # for example in a notebook; the sweep would shut down the user's Ray
        raise UserError(
            "this process already uses Ray, and a sweep needs its own connection",
            do="call ray.shutdown() first; with address 'auto' a sweep joins a running cluster",
        )
    settle_environment()
    address = chosen_address(option, os.environ)
    if address is None:
        _start_here()
    else:
        _join(address)


def settle_environment() -> None:
    """Ray's settings as a sweep wants them, unless the environment says otherwise."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Otherwise Ray would start a task that is killed for its memory again for ever.
    os.environ.setdefault("RAY_task_oom_retries", "2")
    # If there are more processes than cores, Ray ends one that has had no task for a second, and a
    # new one takes five seconds. A Ray that is joined has its own setting.
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", str(_IDLE_MILLISECONDS))
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's future default


def _join(address: ClusterAddress) -> None:
    place = address.text if address.is_client else host_and_port(address)
    _refuse_unreachable(address, place.rpartition("/")[2])
    if not address.is_client:
        # The head is asked without a token first; ours is sent only if it asks for one.
        unasked = ask(place, None, _ANSWER_SECONDS)
        token = token_at_hand(os.environ) if unasked is Answer.NO_ENTRY else None
        shown = ask(place, token.text, _ANSWER_SECONDS) if token else None
        _use_auth_mode(auth_mode(address, unasked, token, shown))
    try:
        _init(place)
    except (ConnectionError, ValueError, RuntimeError, AuthenticationError) as error:
        raise address.refusal(f"no Ray cluster answers: {first_line(error)}") from error


def _start_here() -> None:
    """Start Ray on this machine. If there is no token, Ray writes a new one to a file in HOME."""
    if os.environ.get(_MODE_VARIABLE, "token").lower() == "token":
        token_at_hand(os.environ)  # refuses a token that Ray could not use
    try:
        os.environ.setdefault("HOME", str(Path.home()))
        # Without "local", Ray would join any cluster that it finds on this machine.
        _init("local", include_dashboard=False)
    except OSError as error:
        raise UserError(
            f"Ray does not start: {error.filename or 'its files'}: {error.strerror or error}",
            where="this machine",
            do="Ray writes its token in HOME and its records in /tmp/ray or RAY_TMPDIR",
        ) from error
    except (ValueError, RuntimeError, AuthenticationError) as error:
        what = f"Ray does not start: {first_line(error)}"
        raise UserError(what, where="this machine") from error


def _init(place: str, **options: Any) -> None:
    ray.init(
        address=place,
        log_to_driver=chatter.wanted(),
        logging_level=chatter.level(logging.ERROR),
        **options,
    )


def _refuse_unreachable(address: ClusterAddress, place: str) -> None:
    """UserError with the network's own error message, which gRPC does not show."""
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or error
        raise address.refusal(f"no Ray cluster answers: {said}") from error


def _use_auth_mode(mode: AuthMode) -> None:
    """Set Ray's mode in this process and its children, even if Ray has read another one before."""
    os.environ[_MODE_VARIABLE] = mode
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
