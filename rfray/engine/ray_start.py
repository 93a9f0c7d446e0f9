"""Ray, joined or started: without a word of its own on the screen, and refused in one line."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Any

import ray
from ray._raylet import (  # type: ignore[attr-defined]  # compiled
    AuthenticationTokenLoader,
    Config,
)
from ray.exceptions import AuthenticationError

from rfray.engine.cluster_address import ClusterAddress, chosen_address, host_and_port
from rfray.engine.cluster_entry import AuthMode, auth_mode
from rfray.engine.cluster_probe import Answer, ask
from rfray.engine.cluster_token import token_at_hand
from rfray.errors import UserError
from rfray.terminal import chatter

_MODE_VARIABLE = "RAY_AUTH_MODE"
_IDLE_MILLISECONDS = 60_000
_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 9.0
"""A head answers in milliseconds, one under load in seconds."""


def start_ray(option: str | None) -> None:
    """Join the cluster that `--address` or RAY_ADDRESS names, or start Ray on this machine.

    Args:
        option: What `--address` says; None if it was not given.

    Raises:
        UserError: There is no way into that cluster, Ray cannot start here, or this process has
            one; it says which.
    """
    if ray.is_initialized():  # as a notebook's; to leave it at the end would not be ours to do
        raise UserError(
            "this process has a Ray already, and a sweep has one of its own",
            do="call ray.shutdown() first; address 'auto' joins a cluster that runs on",
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
    # Otherwise a task that is killed for its memory is started again for ever.
    os.environ.setdefault("RAY_task_oom_retries", "2")
    # Ray ends a task's process after a second without a task, and to start one takes five.
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", str(_IDLE_MILLISECONDS))
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default


def _join(address: ClusterAddress) -> None:
    if address.is_client:
        place = address.text
        _refuse_unreachable(address, place.rpartition("/")[2])
    else:
        place = host_and_port(address)
        _refuse_unreachable(address, place)
        _use_auth_mode(_way_in(address, place))
    try:
        _init(place)
    except (ConnectionError, ValueError, RuntimeError, AuthenticationError) as error:
        raise address.refusal(f"no Ray cluster answers: {_first_line(error)}") from error


def _start_here() -> None:
    """Ray makes itself a token where there is none: in a file, below HOME."""
    if os.environ.get(_MODE_VARIABLE, "token").lower() == "token":
        token_at_hand(os.environ)  # refuses what Ray would stumble over
    try:
        os.environ.setdefault("HOME", str(Path.home()))
        # Left to itself Ray joins whatever cluster it finds on this machine.
        _init("local", include_dashboard=False)
    except OSError as error:
        raise UserError(
            f"Ray does not start: {error.filename or 'its files'}: {error.strerror or error}",
            where="this machine",
            do="it keeps its token below HOME and its records in /tmp/ray or RAY_TMPDIR",
        ) from error
    except (ValueError, RuntimeError, AuthenticationError) as error:
        what = f"Ray does not start: {_first_line(error)}"
        raise UserError(what, where="this machine") from error


def _init(place: str, **options: Any) -> None:
    ray.init(
        address=place,
        log_to_driver=chatter.wanted(),
        logging_level=chatter.level(logging.ERROR),
        **options,
    )


def _refuse_unreachable(address: ClusterAddress, place: str) -> None:
    """Say what the network says, which gRPC keeps to itself."""
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or error
        raise address.refusal(f"no Ray cluster answers: {said}") from error


def _way_in(address: ClusterAddress, place: str) -> AuthMode:
    """Ask the head without a token, and show ours only where it asks for one."""
    unasked = ask(place, None, _ANSWER_SECONDS)
    token = token_at_hand(os.environ) if unasked is Answer.NO_ENTRY else None
    shown = ask(place, token.text, _ANSWER_SECONDS) if token else None
    return auth_mode(address, unasked, token, shown)


def _use_auth_mode(mode: AuthMode) -> None:
    """Have Ray take the mode in this process and those below, though it has read another before."""
    os.environ[_MODE_VARIABLE] = mode
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
