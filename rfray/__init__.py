"""rfray: sweeps over a network's receptive field, on Ray, tracked in MLflow.

    >>> import rfray
    >>> study = rfray.Study.load("quickstart", "axes.seed=[0,1,2]")
    >>> result = rfray.sweep(study, storage="results")
    >>> rfray.frame(result)

The names below are public. They are imported when first used: what they need takes seconds.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rfray.api import Planned, Result, Study, frame, plan, sweep
    from rfray.errors import UserError

__version__ = "0.2.0"

__all__ = ["Planned", "Result", "Study", "UserError", "__version__", "frame", "plan", "sweep"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("rfray.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps the functions `rfray.plan` and `rfray.sweep` from being hidden by modules.

    There are modules of these names too: `from rfray.plan import make_plan`, `python -m
    rfray.sweep`. Python makes a module an attribute of its package whenever it is first imported,
    by whomever, and so what `rfray.plan` meant would depend on what was imported before. Modules
    are imported by way of `sys.modules`, and do without that attribute.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
