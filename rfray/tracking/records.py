"""A run as plain data, as the rest of rfray knows it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run

NOTE_TAG = "mlflow.note.content"
"""What MLflow shows as the description of a run or an experiment."""

PARENT_TAG = "mlflow.parentRunId"
STAGE_TAG = "rfray.stage"
KEY_TAG = "rfray.key"
DIGEST_TAG = "rfray.digest"

ORIGIN_TAG = "rfray.origin"
"""Of a run that was imported: its identifier in the store where it was computed."""

WITHHELD_TAG = "rfray.withheld"
"""Artifacts that a run recorded and that are not there, as a JSON list: its archive did not hold
them, or `rfray clean` has dropped them."""

SUPERSEDED_TAG = "rfray.superseded"
"""Why a finished run counts no longer; empty or absent if it does."""

TAKEN_FROM_TAG = "rfray.taken_from"
"""Of a run whose work another study had done: the run that computed it."""

TAKEN_FROM_STUDY_TAG = "rfray.taken_from_study"
"""Likewise: the study that it stands in."""

Measured = tuple[str, int, float, int]
"""Metric, step, value, milliseconds since the epoch."""


@dataclass(frozen=True)
class RunOpening:
    """What a run is made of before its stage starts."""

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
        artifact_uri: Where its artifacts lie.
        tags: All tags.
        params: All params, as the strings that MLflow keeps.
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
        study: The study.
        run: The run.
        parent_digest: `rfray.digest` of the run that it stands under; empty if it has none.
    """

    study: str
    run: RunRecord
    parent_digest: str = ""

    @property
    def computed(self) -> tuple[str, str]:
        """The study and the run that computed it: another one, where this study took it over."""
        tags = self.run.tags
        return (
            tags.get(TAKEN_FROM_STUDY_TAG, self.study),
            tags.get(TAKEN_FROM_TAG, self.run.run_id),
        )


def withheld_of(run: RunRecord) -> set[str]:
    """Artifacts that a run recorded and that are not there."""
    try:
        return {str(name) for name in json.loads(run.tags.get(WITHHELD_TAG) or "[]")}
    except (ValueError, TypeError):
        return set()  # somebody has edited the tag


def withheld_tag(names: Iterable[str]) -> dict[str, str]:
    """The tag that says so."""
    return {WITHHELD_TAG: json.dumps(sorted(names))}


def run_record(run: Run) -> RunRecord:
    """What MLflow says of a run."""
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
