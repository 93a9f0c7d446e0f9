"""Several GPUs for one training: what is refused, planned, forecast, and a sweep that does it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command_line import rfray_anew
from own_head import own_head, plain_environment

from rfray.cell import Cell
from rfray.commands.forecast import expected_schedule
from rfray.data.device import resident
from rfray.engine.assemble import assemble, demands
from rfray.engine.shares import Shares
from rfray.errors import UserError
from rfray.plan import make_plan
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study
from rfray.tracking import Ledger, RunRecord
from rfray.training.loop import train_epochs
from rfray.training.optimization import optimizer_for
from rfray.training.protocol import TrainingProtocol
from rfray.training.weights import initial_module

CORES_AS_GPUS = str(Path(__file__).parent / "cores_as_gpus")
ON_TWO = """\
name: two
axes: {dataset: [digits], arch: [vgg19_rf], kernel_size: [5], seed: [0], width: [0.0625]}
train: {epochs: 1, batch_size: 32, images_per_epoch: 100, learning_rate: 0.02}
resources: {train: {gpus: 2, cpus: 2, retries: 1}}
"""
ONLY_TRAIN = ("prune=false", "finetune=false", "hessian=false", "cka=false", "importance=false")


def planned(tiny_sweep, *overrides):
    return make_plan(load_study(tiny_sweep, overrides))


def a_run(tags):
    return RunRecord("r", "n", "FINISHED", 0, None, "", tags, {}, {})


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["resources.train.gpus=1.5"], "more than one GPU must be a whole number, not 1.5"),
        (["resources.train.gpus=2", "train.compile=true"], "asks for 2 GPUs, but compile is for"),
        (["resources.train.gpus=2", "train.cuda_graph=true"], "but cuda_graph is for one GPU"),
        (["resources.hessian.gpus=2"], "asks for 2 GPUs, but it computes on one GPU"),
    ],
)
def test_what_several_gpus_cannot_do_is_refused_in_a_line(tiny_sweep, overrides, said):
    with pytest.raises(UserError, match=said):
        planned(tiny_sweep, *overrides)


def test_a_job_has_a_process_for_each_gpu_that_it_was_given(tiny_sweep, tmp_path):
    """In its key nothing says so: the numbers are the same to rounding."""
    plan = planned(tiny_sweep, "resources.train.gpus=4")
    assert list(plan.nodes) == list(planned(tiny_sweep).nodes)
    needs = demands(plan, gpus=True)
    shares = Shares(plan, lambda node: needs[node.stage])
    for node in plan.nodes.values():
        if node.stage in ("train", "importance"):
            grant = shares.grant(node)
            given = assemble(plan, node, a_run({}), [], grant, tmp_path, "")
            expected = (4, 1.0) if node.stage == "train" else (1, 0.25)
            assert (given.processes, given.share) == expected


def test_the_forecast_takes_four_gpus_to_train_three_and_a_quarter_times_as_fast(tiny_sweep):
    one = planned(tiny_sweep, *ONLY_TRAIN, "axes.seed=[0]")
    four = planned(tiny_sweep, *ONLY_TRAIN, "axes.seed=[0]", "resources.train.gpus=4")
    alone, _ = expected_schedule(one, {}, 4, "gpu")
    together, basis = expected_schedule(four, {}, 4, "gpu")
    assert alone.makespan / together.makespan == pytest.approx(3.25)
    assert together.utilisation == pytest.approx(1)
    assert basis.endswith("; 4 GPUs are assumed to train 3.25 times as fast as one")


@pytest.mark.parametrize(("gpus", "expected"), [(1, 3250), (4, 1000)])
def test_what_one_gpu_will_take_follows_from_what_four_took(tiny_sweep, gpus, expected):
    plan = planned(tiny_sweep, *ONLY_TRAIN, f"resources.train.gpus={gpus}")
    took = a_run({"rfray.seconds": "1000", "rfray.hardware": "4 × NVIDIA H100"})
    schedule, _ = expected_schedule(plan, {next(iter(plan.nodes)): took}, 4, "gpu")
    assert schedule.makespan == pytest.approx(expected)


# A sweep


def loss_of_one_process():
    cell = Cell(dataset="digits", arch="vgg19_rf", kernel_size=5, seed=0, width=0.0625)
    protocol = TrainingProtocol(epochs=1, batch_size=32, images_per_epoch=100, learning_rate=0.02)
    module = initial_module(cell, "cpu")
    optimizer, data = optimizer_for(module, protocol), resident("digits", "cpu")
    (result,) = train_epochs(module, optimizer, data, protocol, cell.seed)
    return result.train_loss


@pytest.mark.ray
@pytest.mark.xdist_group("own_head")
def test_a_sweep_trains_on_two_gpus_and_starts_anew_when_a_process_is_lost(tmp_path):
    """A real Ray that believes in GPUs, and trains on cores."""
    path = os.pathsep.join([CORES_AS_GPUS, *filter(None, [os.environ.get("PYTHONPATH")])])
    (tmp_path / "two.yaml").write_text(ON_TWO)
    environment = {"PYTHONPATH": path, "MARKS": str(tmp_path)}
    with own_head(None, cpus=2, gpus=2, **environment) as head:
        words = ("sweep", "two.yaml", "--storage", "results", "--address", head.address)
        result = rfray_anew(*words, cwd=tmp_path, environment=plain_environment(tmp_path))
    assert result.returncode == 0, result.stderr + result.stdout
    assert len(list(tmp_path.glob("lost-*"))) == 2
    ledger = Ledger(storage_at(str(tmp_path / "results"), None).tracking_uri)
    (run,) = [run for run in ledger.runs("two") if run.tags.get("rfray.stage") == "train"]
    assert run.status == "FINISHED"
    assert run.tags["rfray.hardware"].startswith("2 × ")
    assert run.metrics["train_loss"] == pytest.approx(loss_of_one_process(), rel=1e-4)
