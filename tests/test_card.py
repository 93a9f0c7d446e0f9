"""A stage and its card, with one that is pretended: what it may take, and what it leaves behind."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from pretended_card import PretendedCard

from rfray.data.device import resident
from rfray.device.card import PROCESSOR, NoCardError, room
from rfray.device.cuda import CudaCard, why_none
from rfray.device.exhaustion import exhausted
from rfray.device.utilisation import utilisation_of
from rfray.engine import worker
from rfray.engine.assemble import assemble
from rfray.engine.meter import LEAST_LOOKS, Meter
from rfray.engine.places import Occupancy
from rfray.engine.shares import Grant
from rfray.plan import make_plan
from rfray.stages.hessian_methods import basis_bytes_on
from rfray.stages.registry import stages
from rfray.study.sweep_file import load_study
from rfray.tracking import RunRecord

GB = 1e9


@pytest.mark.parametrize(
    ("card", "left"),
    [
        (PretendedCard(), 80 * GB),
        (PretendedCard(share=0.25), 20 * GB),
        (PretendedCard(share=0.25, used=5 * GB), 15 * GB),
        (PretendedCard(share=0.25, used=5 * GB, cached=3 * GB), 15 * GB),
        (PretendedCard(others=70 * GB), 10 * GB),
        (PretendedCard(others=70 * GB, used=4 * GB, cached=6 * GB), 6 * GB),
        (PretendedCard(share=0.25, used=30 * GB), 0),
        (PROCESSOR, float("inf")),
    ],
    ids=["whole", "a quarter", "a quarter with tensors", "cached blocks are its own to use again",
         "others hold more than their part", "only cached blocks are left", "beyond its share",
         "a processor has no bound of its own"],
)  # fmt: skip
def test_what_a_stage_may_still_take_of_its_card(card, left):
    assert room(card) == left


def job_of(tiny_sweep, tmp_path, **changes):
    plan = make_plan(load_study(str(tiny_sweep)))
    node = next(iter(plan.nodes.values()))
    run = RunRecord("r", "n", "RUNNING", 0, None, str(tmp_path / "artifacts"), {}, {}, {})
    job = assemble(plan, node, run, [], Grant(Occupancy(1, 1)), tmp_path / "checkpoints", "")
    return job.model_copy(update=changes)


@pytest.fixture
def running(monkeypatch):
    """A job on a pretended card, its stage replaced by a function of the context."""

    def run_on(card, stage, job):
        known = {"train": replace(stages()["train"], run=stage)}
        monkeypatch.setattr(worker, "stages", lambda: known)
        monkeypatch.setattr(worker, "card_for", lambda _: card)
        return worker.run_job(job, lambda _: None)

    return run_on


def test_a_stage_leaves_its_card_as_it_found_it(tiny_sweep, tmp_path, running):
    left = []

    def stage(context):
        data = resident("digits", "cpu")
        left.append(weakref.ref(data))
        context.card.cached = 7 * GB

    card = PretendedCard()
    outcome = running(card, stage, job_of(tiny_sweep, tmp_path))
    gc.collect()
    assert outcome.status == "finished"
    assert outcome.hardware == "Pretended 80GB"
    assert card.releases == 1
    assert card.memory().free == 80 * GB
    assert left[0]() is None


def test_so_does_one_that_fails_though_its_traceback_holds_its_tensors(
    tiny_sweep, tmp_path, running
):
    held = []

    class Held(torch.Tensor):
        pass

    def stage(context):
        weights = torch.ones(3).as_subclass(Held)
        held.append(weakref.ref(weights))
        raise ArithmeticError("no")

    card = PretendedCard()
    card.release = lambda: held.append(held[0]() is None)
    outcome = running(card, stage, job_of(tiny_sweep, tmp_path))
    assert outcome.reason == "ArithmeticError: no"
    assert held[1] is True


def raised_from(cause, error):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (raised_from(torch.OutOfMemoryError("no memory"), ValueError("layer 3")), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), False),
        (MemoryError(), False),
        (RuntimeError("shapes do not match"), False),
    ],
)
def test_which_errors_say_that_a_card_is_out_of_memory(error, is_one):
    assert exhausted(error) is is_one


def test_a_stage_that_used_its_card_up_says_so_in_its_outcome(tiny_sweep, tmp_path, running):
    def stage(context):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    outcome = running(PretendedCard(), stage, job_of(tiny_sweep, tmp_path))
    assert (outcome.status, outcome.out_of_card_memory) == ("failed", True)


def test_what_it_was_started_with_stands_among_its_remarks(tiny_sweep, tmp_path, running):
    job = job_of(tiny_sweep, tmp_path, remarks=["Done on a whole GPU."])
    outcome = running(PretendedCard(), lambda context: context.remark("And so on."), job)
    assert outcome.remarks == ["Done on a whole GPU.", "And so on."]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_job_on_a_gpu_that_pytorch_does_not_find_fails_in_one_sentence(tiny_sweep, tmp_path):
    with pytest.raises(NoCardError):
        CudaCard(1.0)
    outcome = worker.run_job(job_of(tiny_sweep, tmp_path), lambda _: None)
    assert (outcome.status, outcome.no_card, outcome.traceback) == ("failed", True, "")
    assert outcome.host


def test_the_sentence_tells_a_build_for_processors_from_a_missing_driver():
    assert why_none(None).startswith("this PyTorch is built for CPUs only: install")
    assert "nvidia-smi must show the GPU" in why_none("13.2")


def test_how_busy_a_card_is_nobody_knows_without_its_library():
    assert utilisation_of("GPU-1234") is None


def test_a_meter_counts_from_the_first_report_on():
    card = PretendedCard(used=3 * GB, cached=GB, busy=[0.25, 0.75])
    meter = Meter(card)
    meter.look()  # reading and compiling: not what goes on
    assert meter.use() is None
    assert meter.use() is None
    for _ in range(LEAST_LOOKS):
        meter.look()
    use = meter.use()
    assert (use.peak, use.total) == (4 * GB, 80 * GB)
    assert use.utilisation == pytest.approx((0.25 + 0.75 * (LEAST_LOOKS - 1)) / LEAST_LOOKS)


def test_a_meter_of_a_card_that_nobody_sees_tells_its_memory_alone():
    meter = Meter(PretendedCard(used=GB, busy=[None]))
    meter.use()
    for _ in range(LEAST_LOOKS):
        meter.look()
    assert meter.use().utilisation is None
    assert meter.use().peak == GB


def test_the_basis_of_hessian_may_take_half_of_what_its_share_leaves_not_of_the_card():
    assert basis_bytes_on(PretendedCard(share=0.25, used=4 * GB)) == 8 * GB
