"""Whether a driver may join a Ray cluster, from the answers of its head. Pure."""

from __future__ import annotations

from typing import Literal

from rfray.engine.cluster_address import ClusterAddress
from rfray.engine.cluster_probe import Answer
from rfray.engine.cluster_token import VARIABLE, Token
from rfray.errors import UserError

AuthMode = Literal["token", "disabled"]
"""The value of RAY_AUTH_MODE: whether Ray's processes send the token to each other."""

_ON_THE_HEAD = "`ray get-auth-token` on the cluster's head prints"
_BRING_IT = f"{_ON_THE_HEAD} it: write it to ~/.ray/auth_token here, or set {VARIABLE}"


def auth_mode(
    address: ClusterAddress, unasked: Answer, token: Token | None, shown: Answer | None
) -> AuthMode:
    """The mode in which Ray must join.

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
    raise _no_head(address, shown or unasked)


def _no_head(address: ClusterAddress, answer: Answer) -> UserError:
    silent = answer is Answer.NOTHING
    what = "does not answer" if silent else "is not the head of a cluster"
    return address.refusal(
        f"no Ray cluster answers: the program at this port {what}",
        f"give the port of `ray start --head`, 6379 by default, or {address.without}",
    )
