"""From a node of the plan to the job for a worker. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rfray.engine.job import Job, JobInput, Outcome
from rfray.engine.places import Occupancy
from rfray.engine.records import ATTEMPT_TAG
from rfray.files.artifacts import digest_of
from rfray.models.outside import code_digest, network_folders_in_use
from rfray.plan import Node, Plan
from rfray.plugins import plugin_files_in_use
from rfray.stages.registry import stage_code
from rfray.study.naming import SAMPLE, SEARCH, TRAIN
from rfray.tracking import DIGEST_TAG, RunRecord

_MOST_CPU_THREADS = 64


@dataclass(frozen=True)
class Finished:
    """What the readers of a finished node need to know of it."""

    run_id: str
    artifact_uri: str
    metrics: Mapping[str, float]
    digest: str


def finished_before(run: RunRecord) -> Finished:
    """A node that was finished by an earlier sweep."""
    return Finished(run.run_id, run.artifact_uri, run.metrics, run.tags.get(DIGEST_TAG, ""))


def finished_now(run: RunRecord, outcome: Outcome) -> Finished:
    """A node that was finished by this sweep."""
    digest = digest_of(outcome.digests)
    return Finished(run.run_id, run.artifact_uri, outcome.last_metrics, digest)


def assemble(
    plan: Plan,
    node: Node,
    run: RunRecord,
    done: Mapping[str, Finished],
    occupancy: Occupancy,
    checkpoints: Path,
    tracking_uri: str,
    earlier: Path | None = None,
) -> Job:
    """The job of a node whose inputs are all in `done`; a training may continue from `earlier`."""
    return Job(
        key=node.key,
        name=node.name,
        stage=node.stage,
        variant=dict(node.variant),
        parameters=node.parameters.model_dump(),
        cells=list(node.cells),
        inputs=[_input(plan.nodes[key], done[key]) for key in node.inputs],
        run_id=run.run_id,
        artifact_uri=run.artifact_uri,
        attempt=int(run.tags.get(ATTEMPT_TAG, "1")),
        time_limit=plan.study.request(node.stage).time_limit,
        checkpoint_every=plan.study.request(node.stage).checkpoint_every,
        checkpoint=str(checkpoints / node.key),
        earlier=None if earlier is None else str(earlier),
        data_root=plan.study.data.root,
        background=plan.study.data.background,
        fingerprint=node.cells[0].facts.fingerprint,
        network_folders=network_folders_in_use(),
        code=code_digest(node.cells[0].arch),
        stage_code=stage_code(node.stage),
        plugins=plugin_files_in_use(),
        tracking_uri=tracking_uri,
        threads=max(1, min(int(occupancy.cpus), _MOST_CPU_THREADS)),
        device="cuda" if occupancy.gpus > 0 else "cpu",
    )


def demands(plan: Plan, *, gpus: bool) -> dict[str, Occupancy]:
    """What one run of each stage occupies, on a cluster with or without GPUs."""
    return {stage: _demand(plan, stage, gpus=gpus) for stage in plan.study.stage_parameters()}


def readers(plan: Plan, dataset: str) -> list[str]:
    """Keys of the nodes that read a data set: trainings, samples, and all nodes with inputs.

    Other nodes only use facts of the data set, for example importance its image size.
    """
    return [
        key
        for key, node in plan.nodes.items()
        if node.cells[0].dataset == dataset and (node.stage in (TRAIN, SAMPLE) or node.inputs)
    ]


def _demand(plan: Plan, stage: str, *, gpus: bool) -> Occupancy:
    request = plan.study.request(stage)
    if isinstance(request.gpus, float):
        return Occupancy(request.cpus, request.gpus)
    if not gpus:
        return Occupancy(request.cpus, 0.0)
    if stage == SEARCH:  # it only compares numbers
        return Occupancy(request.cpus, 0.0)
    return Occupancy(request.cpus, 1.0 if stage in (TRAIN, SAMPLE) else 0.25)


def _input(node: Node, finished: Finished) -> JobInput:
    return JobInput(
        stage=node.stage,
        cell=node.cells[0],
        run_id=finished.run_id,
        artifact_uri=finished.artifact_uri,
        metrics=dict(finished.metrics),
        digest=finished.digest,
    )
