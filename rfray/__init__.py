"""rfray: sweeps over a network's receptive field, on Ray, tracked in MLflow.

    >>> import rfray
    >>> study = rfray.Study.load("quickstart", "axes.seed=[0,1,2]")
    >>> result = rfray.sweep(study, storage="results")
    >>> rfray.frame(result)

The names below are public. They are imported at their first use, because that takes seconds.
"""

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
    """Prevents modules from hiding the functions `rfray.plan` and `rfray.sweep`.

    There are modules with the same names: `from rfray.plan import make_plan`, `python -m
    rfray.sweep`. When a module is imported, Python sets it as an attribute of its package. So the
    meaning of `rfray.plan` would depend on earlier imports. Imports of modules still work without
    this attribute, because they use `sys.modules`.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
