"""What Ray, Tune and MLflow say of themselves: nothing, unless the user asked for it."""

from __future__ import annotations

import logging
import os
import warnings

VARIABLE = "RFRAY_VERBOSE"
"""Set by `rfray sweep -v`; any text but the empty one asks for it."""


def wanted() -> bool:
    """Whether libraries may say what they do."""
    return bool(os.environ.get(VARIABLE))


def level(unless_wanted: int) -> int:
    """The logging level of a library: INFO where chatter is wanted, else the one given."""
    return logging.INFO if wanted() else unless_wanted


def miss_no_widgets() -> None:
    """Have libraries say nothing of ipywidgets, which they miss in a notebook when imported."""
    warnings.filterwarnings("ignore", "IProgress not found")  # tqdm, by way of MLflow
    logging.getLogger("ray.widgets.util").setLevel(level(logging.WARNING))


def ask_for_it() -> None:
    """Have all libraries say what they do, on standard error, in this process and those below."""
    os.environ[VARIABLE] = "1"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
