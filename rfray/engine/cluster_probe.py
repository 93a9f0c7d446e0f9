"""One question to the head of a Ray cluster, before Ray's own client is let near it.

Where Ray is refused it tries for 20 seconds and writes to the screen all the while, whatever its
log level; a single call says in milliseconds whether it would be.
"""

from __future__ import annotations

import os
from enum import Enum

import grpc

_METHOD = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_EMPTY_REQUEST = b""

_OPTIONS = [("grpc.enable_http_proxy", 0)]
"""As Ray's own client: a proxy of the web reaches no cluster."""


class Answer(Enum):
    """What came back."""

    WELCOME = "the head answers"
    NO_ENTRY = "the head asks for another token, or for one at all"
    FOREIGN = "something else than a head answers"
    NOTHING = "nothing answers in time"


_ANSWERS = {
    grpc.StatusCode.UNAUTHENTICATED: Answer.NO_ENTRY,
    grpc.StatusCode.DEADLINE_EXCEEDED: Answer.NOTHING,
}


def ask(host_and_port: str, token: str | None, seconds: float) -> Answer:
    """Ask the head whether it is alive.

    Args:
        host_and_port: Where something listens.
        token: To show; None shows none.
        seconds: How long to wait for the answer.
    """
    shown = [("authorization", f"Bearer {token}")] if token else []
    with _channel(host_and_port) as channel:
        check_alive = channel.unary_unary(_METHOD)
        try:
            check_alive(_EMPTY_REQUEST, timeout=seconds, metadata=shown)
        except grpc.RpcError as error:
            return _ANSWERS.get(error.code(), Answer.FOREIGN)
    return Answer.WELCOME


def _channel(host_and_port: str) -> grpc.Channel:
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return grpc.insecure_channel(host_and_port, _OPTIONS)
    from ray._common.tls_utils import load_certs_from_env

    certificate, key, authority = load_certs_from_env()
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    return grpc.secure_channel(host_and_port, credentials, _OPTIONS)
