"""MLflow runs as plain data."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run

NOTE_TAG = "mlflow.note.content"
"""The tag that MLflow shows as the description of a run or an experiment."""

PARENT_TAG = "mlflow.parentRunId"
STAGE_TAG = "rfray.stage"
KEY_TAG = "rfray.key"
DIGEST_TAG = "rfray.digest"

ORIGIN_TAG = "rfray.origin"
"""For an imported run: its identifier in the store where it was computed."""

WITHHELD_TAG = "rfray.withheld"
"""The artifacts that a run lacks, as a JSON list: `rfray clean` deleted them, or the imported
archive did not hold them."""

SUPERSEDED_TAG = "rfray.superseded"
"""Why a finished run does not count any more; empty or absent if it counts."""

TAKEN_FROM_TAG = "rfray.taken_from"
"""For a reused run: the run of another study that computed it."""

TAKEN_FROM_STUDY_TAG = "rfray.taken_from_study"
"""For a reused run: the study that computed it."""

Measured = tuple[str, int, float, int]
"""Metric, step, value, milliseconds since the epoch."""


@dataclass(frozen=True)
class RunOpening:
    """The content of a run before its stage starts."""

    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """One MLflow run as plain data: one stage of a study.

    Attributes:
        run_id: MLflow's identifier.
        name: Run name, such as `vgg19_rf-cifar10-k3-seed0/train`.
        status: RUNNING, FINISHED, FAILED, KILLED or SCHEDULED.
        start_time: Milliseconds since the epoch.
        end_time: Milliseconds since the epoch; None while it runs.
        params: All params, as strings, as in MLflow.
        metrics: The latest value of each metric.
    """

    run_id: str
    name: str
    status: str
    start_time: int
    end_time: int | None
    artifact_uri: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Elsewhere:
    """A finished run of another study.

    Attributes:
        parent_digest: `rfray.digest` of its parent run; empty if it has none.
    """

    study: str
    run: RunRecord
    parent_digest: str = ""

    @property
    def computed(self) -> tuple[str, str]:
        """The study and the run that computed it, also if this study reused it itself."""
        tags = self.run.tags
        return (
            tags.get(TAKEN_FROM_STUDY_TAG, self.study),
            tags.get(TAKEN_FROM_TAG, self.run.run_id),
        )


def withheld_of(run: RunRecord) -> set[str]:
    """The artifacts that a run lacks."""
    try:
        return {str(name) for name in json.loads(run.tags.get(WITHHELD_TAG) or "[]")}
    except (ValueError, TypeError):
        return set()  # a user has edited the tag


def withheld_tag(names: Iterable[str]) -> dict[str, str]:
    """The tag for the artifacts that a run lacks."""
    return {WITHHELD_TAG: json.dumps(sorted(names))}


def run_record(run: Run) -> RunRecord:
    """A run of MLflow as plain data."""
    return RunRecord(
        run_id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        start_time=run.info.start_time,
        end_time=run.info.end_time,
        artifact_uri=run.info.artifact_uri,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )
