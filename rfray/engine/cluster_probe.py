"""One request to the head of a Ray cluster, before Ray's own client connects to it.

If a head refuses Ray's client, the client tries for 20 seconds and writes to the screen, whatever
its log level. A single request shows within milliseconds whether the head would refuse it.
"""

from __future__ import annotations

import os
from enum import Enum

import grpc

_METHOD = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_EMPTY_REQUEST = b""

_OPTIONS = [("grpc.enable_http_proxy", 0)]
"""As in Ray's own client: no HTTP proxy."""


class Answer(Enum):
    """The answer of the head."""

    WELCOME = "the head answers"
    NO_ENTRY = "the head asks for a token, or for another token"
    FOREIGN = "another program answers"
    NOTHING = "no answer in time"


_ANSWERS = {
    grpc.StatusCode.UNAUTHENTICATED: Answer.NO_ENTRY,
    grpc.StatusCode.DEADLINE_EXCEEDED: Answer.NOTHING,
}


def ask(host_and_port: str, token: str | None, seconds: float) -> Answer:
    """Ask the head whether it is alive.

    Args:
        host_and_port: Address of the head.
        token: Token to send; None sends none.
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
