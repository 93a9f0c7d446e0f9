"""The origin of a study's results: code, hardware, dates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rfray.analysis import schema
from rfray.analysis.frame import StudyFrame
from rfray.analysis.links import without_password
from rfray.analysis.samples import precision_of
from rfray.analysis.screening import moment

if TYPE_CHECKING:
    from rfray.tracking import RunRecord


def facts(frame: StudyFrame) -> list[tuple[str, str]]:
    """(what, value) pairs about a study with at least one finished run."""
    records = list(frame.kept.values())
    source = "not recorded, inferred from the runs" if frame.document.inferred else "recorded"
    ended = max(record.end_time or record.start_time for record in records)
    return [
        ("Study", f"`{frame.study}` in `{without_password(frame.tracking_uri)}`"),
        ("Plan", source),
        ("Runs", f"{len(records)} finished that count, {len(frame.dropped)} left out"),
        *_taken(records),
        ("rfray", _counts(record.tags.get(schema.VERSION_TAG) for record in records)),
        ("git", _counts(record.tags.get(schema.GIT_TAG) for record in records)),
        ("Hardware", _counts(record.tags.get(schema.HARDWARE_TAG) for record in records)),
        ("Precision", _counts(filter(None, map(precision_of, records))) or "not recorded"),
        ("Dates", f"{moment(min(r.start_time for r in records))} to {moment(ended)}"),
        ("Work", _work(frame)),
    ]


def _taken(records: Sequence[RunRecord]) -> list[tuple[str, str]]:
    """The studies whose runs this one reuses, if there are any."""
    studies = Counter(record.tags.get(schema.TAKEN_FROM_STUDY_TAG, "") for record in records)
    del studies[""]
    told = ", ".join(f"{count} runs from `{study}`" for study, count in studies.most_common())
    return [("Reused", told)] if told else []


def _counts(values: Iterable[str | None]) -> str:
    counts = Counter(value or "not recorded" for value in values).most_common()
    if len(counts) == 1:
        return counts[0][0]
    return ", ".join(f"{value} ({count} runs)" for value, count in counts)


def _work(frame: StudyFrame) -> str:
    """The total time of the stages that count, as far as their runs record it."""
    spent = [record.tags.get(schema.SECONDS_TAG) for record in frame.kept.values()]
    # A tag that is not a number counts as not recorded.
    recorded = [float(text) for text in spent if text and text.replace(".", "", 1).isdecimal()]
    if not recorded:
        return "not recorded"
    hours = f"{sum(recorded) / 3600:.2f} hours of stages, one after the other"
    silent = len(spent) - len(recorded)
    return f"{hours}; {silent} runs do not record theirs" if silent else hours
