"""Sets the number of PyTorch's threads in this process, also if PyTorch is not imported yet."""

import sys
from typing import Any

from wrapt import register_post_import_hook

_allowed = 0


def allow_threads(count: int) -> None:
    """Let PyTorch use this number of threads from now on.

    Importing PyTorch takes seconds, and some stages do not need it. If it is not imported yet, the
    number is set when it is imported.
    """
    global _allowed
    first, _allowed = _allowed == 0, count
    if first:
        register_post_import_hook(_tell, "torch")  # runs at once if it is imported already
    elif "torch" in sys.modules:
        _tell(sys.modules["torch"])


def _tell(torch: Any) -> None:
    torch.set_num_threads(_allowed)
