"""What `rfray analyze` prints: lines for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rfray.analysis.report import Analysis

_GAPS_SHOWN = 10


def analysis_lines(analysis: Analysis) -> Iterator[str]:
    """The first results that are missing, the runs left out, and where the report is."""
    for gap in analysis.gaps[:_GAPS_SHOWN]:
        yield f"missing: {gap}"
    if len(analysis.gaps) > _GAPS_SHOWN:
        yield f"missing: {len(analysis.gaps) - _GAPS_SHOWN} more, all named in report.html"
    if analysis.left_out:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(analysis.left_out.items()))
        yield f"left out: {kinds} runs, each named in report.html"
    files, start = len(analysis.written), analysis.out / "report.html"
    yield f"{analysis.study}: wrote {files} files; start with {start}"


def analysis_json(analysis: Analysis) -> dict[str, Any]:
    """The same as data for JSON: files, progress of the stages, all that is missing."""
    return {
        "study": analysis.study,
        "out": str(analysis.out),
        "written": [str(path) for path in analysis.written],
        "stages": {one.stage: asdict(one) for one in analysis.progress},
        "missing": [asdict(gap) for gap in analysis.gaps],
        "left_out": dict(analysis.left_out),
        "not_in_study": {one.id: one.reason for one in analysis.not_in_study},
    }
