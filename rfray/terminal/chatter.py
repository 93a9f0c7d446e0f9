"""The log messages of Ray, Tune and MLflow: hidden, unless the user asks for them."""

import logging
import os
import warnings

VARIABLE = "RFRAY_VERBOSE"
"""Set by `rfray sweep -v`; any text that is not empty shows the messages."""


def wanted() -> bool:
    """Whether to show the messages of libraries."""
    return bool(os.environ.get(VARIABLE))


def level(unless_wanted: int) -> int:
    """The logging level of a library: INFO if messages are wanted, else the one given."""
    return logging.INFO if wanted() else unless_wanted


def miss_no_widgets() -> None:
    """Hide the warnings of libraries, when imported in a notebook, that ipywidgets is missing."""
    warnings.filterwarnings("ignore", "IProgress not found")  # tqdm, by way of MLflow
    logging.getLogger("ray.widgets.util").setLevel(level(logging.WARNING))


def ask_for_it() -> None:
    """Show the messages of libraries on standard error, in this process and its children."""
    os.environ[VARIABLE] = "1"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
