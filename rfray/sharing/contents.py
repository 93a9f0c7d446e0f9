"""The files of an archive. Pure.

    STUDY/format.json      version of the archive's format
    STUDY/README.md        for a reader without rfray
    STUDY/study.json       the study document
    STUDY/runs.csv         one row per run: its times, params and last metrics
    STUDY/runs/NAME-ID/run.json, metrics.csv, artifacts/…
    STUDY/SHA256SUMS       digests of all these files, as `sha256sum` prints them

Each run comes after its parent run.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from rfray.parameters import Parameters
from rfray.study import StudyName
from rfray.tracking import ORIGIN_TAG, PARENT_TAG, WITHHELD_TAG, Measured, RunRecord

VERSION = 1
FORMAT, README, STUDY, RUNS, SUMS = (
    "format.json",
    "README.md",
    "study.json",
    "runs.csv",
    "SHA256SUMS",
)
RUN, METRICS, ARTIFACTS = "run.json", "metrics.csv", "artifacts"

_METRIC_COLUMNS = ("metric", "step", "value", "time")
_LEFT_BEHIND = (PARENT_TAG, ORIGIN_TAG, WITHHELD_TAG)


class Format(Parameters):
    """The format of an archive.

    Attributes:
        format: Marks it as a study of rfray.
        version: Version of the format.
        rfray: The version of rfray that wrote it.
        runs: Number of runs in it.
    """

    format: Literal["rfray study"] = "rfray study"
    version: int = VERSION
    study: StudyName
    rfray: str
    runs: int = Field(ge=0)


class Planned(Parameters):
    """The study document, if there is one, and the experiment's description."""

    document: dict[str, Any] | None
    note: str = ""


class RunCopy(Parameters):
    """A run in an archive, without its metrics and artifacts.

    Attributes:
        origin: MLflow's identifier of the run where it was computed. It does not change, however
            often a study is exported and imported.
        start_time: Milliseconds since the epoch.
        end_time: Milliseconds since the epoch; None if not recorded.
        parent: `origin` of its parent run; None if it has none.
        tags: All tags except those that are valid in one store only.
        withheld: Artifacts of the run that are not in the archive.
    """

    origin: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    name: str
    status: Literal["FINISHED", "FAILED", "KILLED"]
    start_time: int
    end_time: int | None
    parent: str | None
    tags: dict[str, str]
    params: dict[str, str]
    withheld: list[str] = []


def origin_of(run: RunRecord) -> str:
    """Identifier of the run where it was computed: its own, or for a copy that of the original."""
    return run.tags.get(ORIGIN_TAG, run.run_id)


def run_copy(run: RunRecord, runs: Mapping[str, RunRecord], withheld: Sequence[str]) -> RunCopy:
    """A run for an archive; `runs` are all runs of its study, by their identifiers."""
    parent = runs.get(run.tags.get(PARENT_TAG, ""))
    return RunCopy.model_validate(
        {
            "origin": origin_of(run),
            "name": run.name,
            "status": run.status,
            "start_time": run.start_time,
            "end_time": run.end_time,
            "parent": origin_of(parent) if parent else None,
            "tags": {name: text for name, text in run.tags.items() if name not in _LEFT_BEHIND},
            "params": run.params,
            "withheld": list(withheld),
        }
    )


def parents_first(runs: Mapping[str, RunRecord]) -> Iterator[RunRecord]:
    """All runs, each after its parent run. `runs` are by their identifiers."""
    seen: set[str] = set()
    for run in runs.values():
        chain: list[RunRecord] = []
        above: RunRecord | None = run
        while above is not None and above.run_id not in seen:
            seen.add(above.run_id)
            chain.append(above)
            above = runs.get(above.tags.get(PARENT_TAG, ""))
        yield from reversed(chain)


def run_folder(run: RunRecord) -> str:
    """Folder of a run in the archive, below the study's: its name, valid on any file system."""
    parts = [re.sub(r"[^A-Za-z0-9._=+-]", "_", part) for part in run.name.split("/")]
    safe = [part for part in parts if part.strip(".")] or ["run"]
    return f"runs/{'/'.join(safe)}-{run.run_id[:8]}"


def metrics_text(measured: Iterable[Measured]) -> Iterator[str]:
    """Lines of a run's metrics.csv: each value with its step, and its time in milliseconds."""
    yield ",".join(_METRIC_COLUMNS) + "\n"
    for name, step, value, time in measured:
        yield _csv_line([name, step, repr(value), time])


def read_metrics(lines: Iterable[str]) -> Iterator[Measured]:
    """The measurements from the lines of `metrics_text`; ValueError for other lines."""
    rows = csv.reader(lines)
    if tuple(next(rows, ())) != _METRIC_COLUMNS:
        raise ValueError(f"its columns are not {', '.join(_METRIC_COLUMNS)}")
    for name, step, value, time in rows:
        yield name, int(step), float(value), int(time)


def runs_text(runs: Sequence[tuple[str, RunRecord]]) -> Iterator[str]:
    """Lines of runs.csv. `runs` are (folder in the archive, run)."""
    params = sorted({name for _, run in runs for name in run.params})
    metrics = sorted({name for _, run in runs for name in run.metrics})
    facts = ["name", "stage", "status", "start_time", "end_time", "seconds", "run_id", "folder"]
    yield _csv_line([*facts, *(f"params.{p}" for p in params), *(f"metrics.{m}" for m in metrics)])
    for folder, run in runs:
        tags = run.tags
        yield _csv_line(
            [
                run.name,
                tags.get("rfray.stage", ""),
                run.status,
                run.start_time,
                "" if run.end_time is None else run.end_time,
                tags.get("rfray.seconds", ""),
                origin_of(run),
                folder,
                *(run.params.get(name, "") for name in params),
                *(repr(run.metrics[name]) if name in run.metrics else "" for name in metrics),
            ]
        )


def sums_text(digests: Mapping[str, str]) -> str:
    """SHA256SUMS, from the digests by path below the study's folder."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def read_sums(text: str) -> dict[str, str]:
    """The digests from the text of `sums_text`."""
    pairs = (line.split("  ", 1) for line in text.splitlines())
    return {pair[-1]: pair[0] for pair in pairs}


def readme(form: Format, note: str) -> str:
    """The README of an archive."""
    return f"""\
# The study {form.study}

{note or "Written by rfray."}

{form.runs} runs, written by `rfray export` {form.rfray}. To continue the study, `rfray import` this
archive into a folder or an MLflow server, then `rfray analyze --study {form.study}`. To read it
without rfray, unpack it (`tar --zstd -xf`, or `zstd -d` and `tar -xf`):

- `runs.csv`: one row per run. Name, stage, status, start and end (milliseconds since 1970, UTC),
  seconds of computing, params, the last value of each metric, and its folder.
- `runs/…/metrics.csv`: every value of each metric of a run, `metric,step,value,time`.
- `runs/…/artifacts/`: the files of the run: `result.json`, tables, figures, weights. The weights of
  a training run are `model.safetensors`. A pruned or fine-tuned network is stored as changes of
  them (`model-changes.npz`); `rfray weights RUN FILE` writes it complete.
- `runs/…/run.json`: the run in MLflow, with all its tags.
- `study.json`: the study, with every default.
- `SHA256SUMS`: digests of all these files, for `sha256sum -c SHA256SUMS`.

```python
import pandas

runs = pandas.read_csv("runs.csv")
first = runs[runs.stage == "train"].iloc[0]
history = pandas.read_csv(f"{{first.folder}}/metrics.csv")
print(history.pivot(index="step", columns="metric", values="value"))
```
"""


def _csv_line(values: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
