"""How many threads PyTorch may use in this process, also where it is not imported yet."""

from __future__ import annotations

import sys
from typing import Any

from wrapt import register_post_import_hook

_allowed = 0


def allow_threads(count: int) -> None:
    """Let PyTorch use so many threads from now on.

    Importing it takes seconds, which a stage that needs none of it should not wait for. Where it is
    not there yet it is told as soon as it is, before whoever imports it can compute anything.
    """
    global _allowed
    first, _allowed = _allowed == 0, count
    if first:
        register_post_import_hook(_tell, "torch")  # at once, where it is imported already
    elif "torch" in sys.modules:
        _tell(sys.modules["torch"])


def _tell(torch: Any) -> None:
    torch.set_num_threads(_allowed)
