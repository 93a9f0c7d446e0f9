"""How to enter a Ray cluster, given what its head has answered. Pure."""

from __future__ import annotations

from typing import Literal

from rfray.engine.cluster_address import ClusterAddress
from rfray.engine.cluster_probe import Answer
from rfray.engine.cluster_token import VARIABLE, Token
from rfray.errors import UserError

AuthMode = Literal["token", "disabled"]
"""What RAY_AUTH_MODE says: whether Ray's processes show the token to one another."""

_ON_THE_HEAD = "`ray get-auth-token` on the cluster's head prints"
_BRING_IT = f"{_ON_THE_HEAD} it: write it to ~/.ray/auth_token here, or set {VARIABLE}"


def auth_mode(
    address: ClusterAddress, unasked: Answer, token: Token | None, shown: Answer | None
) -> AuthMode:
    """The mode in which Ray is to join.

    A head that asks for no token gets none: Ray would kill the actors of a driver that shows one.

    Args:
        address: Of the cluster.
        unasked: What the head answered without a token.
        token: The one at hand.
        shown: What the head answered to that token; None if it was not shown.

    Raises:
        UserError: There is no way in; it says why.
    """
    if unasked is Answer.WELCOME:
        return "disabled"
    if unasked is Answer.NO_ENTRY:
        if token is None:
            raise address.refusal("the cluster asks for a token, and there is none here", _BRING_IT)
        if shown is Answer.WELCOME:
            return "token"
        if shown is Answer.NO_ENTRY:
            what = f"the cluster asks for another token than that of {token.source}"
            raise address.refusal(what, f"{_ON_THE_HEAD} the right one")
    raise _no_head(address, shown or unasked)


def _no_head(address: ClusterAddress, answer: Answer) -> UserError:
    silent = answer is Answer.NOTHING
    what = "stays silent" if silent else "is no head of one"
    return address.refusal(
        f"no Ray cluster answers: what listens there {what}",
        f"name the port of `ray start --head`, 6379 by default, or {address.without}",
    )
