"""From a node of the plan to the job for a worker. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rfray.engine.job import Job, JobInput, Outcome
from rfray.engine.places import Occupancy
from rfray.engine.records import ATTEMPT_TAG
from rfray.engine.shares import WHOLE, Grant
from rfray.files.artifacts import digest_of
from rfray.models.outside import code_digest, network_folders_in_use
from rfray.plan import Node, Plan
from rfray.plugins import plugin_files_in_use
from rfray.stages.registry import stage_code, stages
from rfray.study.naming import SAMPLE, SEARCH, TRAIN
from rfray.tracking import DIGEST_TAG, RunRecord

_MOST_CPU_THREADS = 64


def assemble(
    plan: Plan,
    node: Node,
    run: RunRecord,
    inputs: Sequence[JobInput],
    grant: Grant,
    checkpoints: Path,
    tracking_uri: str,
    earlier: Path | None = None,
) -> Job:
    """The job of a node that is started with a grant; a training may continue from `earlier`."""
    occupancy, request = grant.occupancy, plan.study.request(node.stage)
    parameters = node.parameters.model_dump()
    micro_batch = stages()[node.stage].micro_batch
    if micro_batch is not None and grant.halvings:
        parameters[micro_batch] >>= grant.halvings
    return Job(
        key=node.key,
        name=node.name,
        stage=node.stage,
        variant=dict(node.variant),
        parameters=parameters,
        cells=list(node.cells),
        inputs=list(inputs),
        run_id=run.run_id,
        artifact_uri=run.artifact_uri,
        attempt=int(run.tags.get(ATTEMPT_TAG, "1")),
        time_limit=request.time_limit,
        checkpoint_every=request.checkpoint_every,
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
        share=min(WHOLE, occupancy.gpus) or WHOLE,
        processes=max(1, int(occupancy.gpus)),
        metered=grant.metered,
        remarks=list(grant.remarks),
    )


def demands(plan: Plan, *, gpus: bool) -> dict[str, Occupancy]:
    """What one run of each stage occupies, on a cluster with or without GPUs."""
    return {stage: _demand(plan, stage, gpus=gpus) for stage in plan.study.stage_parameters()}


def _demand(plan: Plan, stage: str, *, gpus: bool) -> Occupancy:
    request = plan.study.request(stage)
    if isinstance(request.gpus, float):
        return Occupancy(request.cpus, request.gpus)
    if not gpus or stage == SEARCH:  # a search only compares numbers
        return Occupancy(request.cpus, 0.0)
    return Occupancy(request.cpus, WHOLE if stage in (TRAIN, SAMPLE) else 0.25)


def readers(plan: Plan, dataset: str) -> list[str]:
    """Keys of the nodes that read a data set: trainings, samples, and all nodes with inputs.

    Other nodes only use facts of the data set, for example importance its image size.
    """
    return [
        key
        for key, node in plan.nodes.items()
        if node.cells[0].dataset == dataset and (node.stage in (TRAIN, SAMPLE) or node.inputs)
    ]


class Inputs:
    """The finished nodes that nodes without an end read.

    A sweep of a hundred thousand runs must not keep what each of them has measured.

    Args:
        finished: The runs of the nodes that are finished at the start, by key.
    """

    def __init__(self, plan: Plan, finished: Mapping[str, RunRecord]) -> None:
        self._readers = Counter(
            read for key, node in plan.nodes.items() if key not in finished for read in node.inputs
        )
        self._known = {
            key: _input(plan.nodes[key], run, run.metrics, run.tags.get(DIGEST_TAG, ""))
            for key, run in finished.items()
            if self._readers[key]
        }

    @property
    def known(self) -> Mapping[str, JobInput]:
        """By key; all that a node without an end reads, as far as it is finished."""
        return self._known

    def of(self, node: Node) -> list[JobInput]:
        """What a node reads; all of it is finished."""
        return [self._known[key] for key in node.inputs]

    def finished(self, node: Node, run: RunRecord, outcome: Outcome) -> None:
        """A node is finished."""
        if self._readers[node.key]:
            digest = digest_of(outcome.digests)
            self._known[node.key] = _input(node, run, outcome.last_metrics, digest)

    def ended(self, node: Node) -> None:
        """A node has ended, well or not, or will not start: it reads no more."""
        for key in node.inputs:
            self._readers[key] -= 1
            if not self._readers[key]:
                self._known.pop(key, None)


def _input(node: Node, run: RunRecord, metrics: Mapping[str, float], digest: str) -> JobInput:
    return JobInput(
        stage=node.stage,
        cell=node.cells[0],
        run_id=run.run_id,
        artifact_uri=run.artifact_uri,
        metrics=dict(metrics),
        digest=digest,
    )
