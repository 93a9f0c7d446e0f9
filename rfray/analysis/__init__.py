"""From MLflow to tables and figures: knows the public schema of runs, neither Ray nor torch.

    >>> from rfray.analysis import read_frame
    >>> from rfray.tracking import Ledger
    >>> rows = read_frame(Ledger("sqlite:////home/me/rfray-results/mlflow.db"), "quickstart").rows

The names below are public. They are imported on first use: importing pandas and matplotlib takes
seconds, and a command that draws nothing should not wait for them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rfray.analysis.expected import Expected, Gap, Progress, expected_slots, missing, progress
    from rfray.analysis.frame import StudyFrame, read_frame
    from rfray.analysis.report import Analysis, Report, analyze, compare, load_report
    from rfray.analysis.tables import Table, build_tables

__all__ = [
    "Analysis",
    "Expected",
    "Gap",
    "Progress",
    "Report",
    "StudyFrame",
    "Table",
    "analyze",
    "build_tables",
    "compare",
    "expected_slots",
    "load_report",
    "missing",
    "progress",
    "read_frame",
]

_HOMES = {
    "report": ("Analysis", "Report", "analyze", "compare", "load_report"),
    "expected": ("Expected", "Gap", "Progress", "expected_slots", "missing", "progress"),
    "frame": ("StudyFrame", "read_frame"),
    "tables": ("Table", "build_tables"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
