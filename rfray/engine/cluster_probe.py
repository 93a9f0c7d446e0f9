"""Whether a driver may join a Ray cluster, asked of its head before Ray's own client connects.

If a head refuses Ray's client, the client tries for 20 seconds and writes to the screen, whatever
its log level. A single request shows within milliseconds whether the head would refuse it.
"""

import os
from enum import Enum
from typing import Literal

import grpc

from rfray.engine.cluster_address import ClusterAddress
from rfray.engine.cluster_token import VARIABLE, Token

AuthMode = Literal["token", "disabled"]
"""The value of RAY_AUTH_MODE: whether Ray's processes send the token to each other."""

_METHOD = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_EMPTY_REQUEST = b""

_OPTIONS = [("grpc.enable_http_proxy", 0)]
"""As in Ray's own client: no HTTP proxy."""

_ON_THE_HEAD = "`ray get-auth-token` on the cluster's head prints"
_BRING_IT = f"{_ON_THE_HEAD} it: write it to ~/.ray/auth_token here, or set {VARIABLE}"


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
    """Ask the head whether it is alive; wait at most `seconds`, and send no token if it is None."""
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


def auth_mode(
    address: ClusterAddress, unasked: Answer, token: Token | None, shown: Answer | None
) -> AuthMode:
    """The mode in which Ray must join, from the answers of the head.

    A head that asks for no token must get none: Ray would kill the actors of a driver that sends
    one.

    Args:
        address: Address of the cluster.
        unasked: The head's answer without a token.
        token: The token that was found; None if there is none.
        shown: The head's answer to that token; None if it was not sent.

    Raises:
        UserError: The cluster cannot be joined; it says why.
    """
    if unasked is Answer.WELCOME:
        return "disabled"
    if unasked is Answer.NO_ENTRY:
        if token is None:
            raise address.refusal("the cluster asks for a token, but there is none here", _BRING_IT)
        if shown is Answer.WELCOME:
            return "token"
        if shown is Answer.NO_ENTRY:
            what = f"the cluster asks for another token than the one in {token.source}"
            raise address.refusal(what, f"{_ON_THE_HEAD} the right one")
    silent = (shown or unasked) is Answer.NOTHING
    what = "does not answer" if silent else "is not the head of a cluster"
    raise address.refusal(
        f"no Ray cluster answers: the program at this port {what}",
        f"give the port of `ray start --head`, 6379 by default, or {address.without}",
    )
