"""A sweep on a pretended GPU: its memory used up, more of it, the same numbers; no GPU at all."""

from __future__ import annotations

from collections import Counter

import pytest
from test_sweep import runs_of, sweep

from rfray.driver.watch import result_words
from rfray.engine.executor import Ended, InProcessExecutor, Progressed
from rfray.engine.frontier import State
from rfray.engine.job import CardUse, Outcome, Progress
from rfray.engine.places import Machine, Occupancy
from rfray.engine.worker import run_job

ONE_CELL = ("axes.seed=[0]", "prune.rates=[0.5]", "finetune=false", "cka=false",
            "importance=false", "hessian.images=8", "hessian.micro_batch=4")  # fmt: skip
CELLS_ALONE = ("prune=false", "finetune=false", "hessian=false", "cka=false", "importance=false")
WHOLE = "The GPU's memory was used up on a share of 0.25: computed on a whole GPU instead."


def computed(job):
    """A job's outcome, computed on what there is here."""
    return run_job(job.model_copy(update={"device": "cpu"}), lambda _: None)


def imagined(job):
    """An outcome without its numbers."""
    return Outcome(key=job.key, status="finished", remarks=job.remarks)


class PretendedGpu(InProcessExecutor):
    """One GPU beside eight cores.

    `needs` says what part of the GPU's memory a job takes, `does` what becomes of it if there is
    as much, `tells` what it tells of its GPU meanwhile.
    """

    def __init__(self, needs=lambda job: 0.0, does=imagined, tells=lambda job: None):
        super().__init__()
        self.needs, self.does, self.tells = needs, does, tells
        self.jobs, self.submitted, self.taken = [], [], {}
        self._here = {"here": Machine(Occupancy(cpus=8, gpus=1), 2**40)}

    def submit(self, job, occupancy, request, machine):
        self.submitted.append((job.stage, occupancy.gpus))
        self.taken[job.key] = occupancy.gpus
        assert sum(self.taken.values()) <= 1 + 1e-6
        self.jobs.append(job)

    def events(self, timeout):
        if not self.jobs:
            return super().events(timeout)
        job = self.jobs.pop(0)
        del self.taken[job.key]
        if self.needs(job) > job.share:
            reason = "OutOfMemoryError: CUDA out of memory"
            failed = Outcome(key=job.key, status="failed", reason=reason, out_of_card_memory=True)
            return [Ended(failed)]
        told = [Progressed(job.key, Progress(use=self.tells(job)))]
        return [*told, Ended(self.does(job))]


def swept(tiny_sweep, tmp_path, *overrides, **gpu):
    executor = PretendedGpu(**gpu)
    folder = tmp_path / "results"
    frontier, told = sweep(tiny_sweep, folder, *overrides, executor=lambda: executor)
    return frontier, told, executor, {run.tags["rfray.stage"]: run for run in runs_of(folder)}


def numbers(run):
    times = {"epoch_seconds", "wall_seconds"}
    return {name: value for name, value in run.metrics.items() if name not in times}


def test_what_used_its_share_up_is_done_otherwise_and_the_numbers_are_the_same(
    tiny_sweep, tmp_path
):
    def needs(job):
        if job.stage == "hessian":
            return 2.0 if job.parameters["micro_batch"] > 2 else 0.0
        return 0.4

    _, _, _, enough = swept(tiny_sweep, tmp_path / "enough", *ONE_CELL, does=computed)
    frontier, told, gpu, runs = swept(tiny_sweep, tmp_path, *ONE_CELL, does=computed, needs=needs)
    assert set(frontier.states.values()) == {State.DONE}
    assert {run.status for run in runs.values()} == {"FINISHED"}
    assert Counter(gpu.submitted) == Counter(
        {("train", 1): 1, ("prune", 0.25): 1, ("prune", 1): 1}
        | {("hessian", 0.25): 1, ("hessian", 1): 2}
    )
    for stage in ("train", "prune"):
        assert numbers(runs[stage]) == numbers(enough[stage])
    assert runs["hessian"].metrics["trace"] == pytest.approx(
        enough["hessian"].metrics["trace"], rel=1e-4
    )

    assert runs["prune"].tags["rfray.remark"] == WHOLE
    fewer = "The GPU's memory was used up: computed 2 images at a time instead of 4"
    assert runs["hessian"].tags["rfray.remark"].startswith(f"{WHOLE} {fewer}")
    assert runs["hessian"].params["micro_batch"] == "4"  # what was asked for, as its key has it
    (said,) = [result_words(one) for one in told.endings if one.node.stage == "prune"]
    assert said.endswith(WHOLE)


def test_training_that_a_whole_gpu_does_not_hold_has_failed(tiny_sweep, tmp_path):
    frontier, _, gpu, runs = swept(tiny_sweep, tmp_path, *ONE_CELL, needs=lambda job: 2.0)
    assert gpu.submitted == [("train", 1.0)]
    assert runs["train"].tags["rfray.error"] == "OutOfMemoryError: CUDA out of memory"
    assert Counter(frontier.states.values()) == {State.FAILED: 1, State.SKIPPED: 2}


def test_auto_packs_cells_by_what_the_first_took_and_half_as_many_where_that_is_too_much(
    tiny_sweep, tmp_path
):
    """Four would fit by what it told; then their memory is used up, and there are two."""

    def tells(job):
        return CardUse(peak=3e9, total=80e9, utilisation=0.25) if job.metered else None

    auto = ("resources.train.gpus=auto", "axes.seed=[0,1,2,3,4,5,6]", *CELLS_ALONE)
    frontier, told, gpu, _ = swept(tiny_sweep, tmp_path, *auto, needs=lambda job: 0.5, tells=tells)
    assert set(frontier.states.values()) == {State.DONE}
    shares = [share for _, share in gpu.submitted]
    assert shares[0] == 1.0
    assert 1 <= Counter(shares)[0.25] <= 4
    assert Counter(shares)[0.5] == 6
    remarks = Counter(remark for one in told.endings for remark in one.outcome.remarks)
    assert remarks == {
        "The GPU's memory was used up on a share of 0.25: computed on 0.5 of one instead.": (
            Counter(shares)[0.25]
        )
    }


def test_a_node_without_the_right_pytorch_is_told_once_and_nothing_more_is_started_on_gpus(
    tiny_sweep, tmp_path
):
    why = "this PyTorch is built for CPUs only: install the one for GPUs"

    def without_gpu(job):
        return Outcome(key=job.key, status="failed", reason=why, host="n1", no_card=True)

    frontier, told, gpu, _ = swept(
        tiny_sweep, tmp_path, "axes.seed=[0,1,2]", *CELLS_ALONE, does=without_gpu
    )
    (one,) = told.endings
    assert gpu.submitted == [("train", 1.0)]
    assert result_words(one) == f"no GPU is found on n1: {why}; 2 other runs on GPUs are skipped"
    assert Counter(frontier.states.values()) == {State.FAILED: 1, State.SKIPPED: 2}
    assert Counter(run.status for run in runs_of(tmp_path / "results"))["RUNNING"] == 0
