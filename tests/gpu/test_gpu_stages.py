"""Every stage on a card, on the very inputs that it has on a processor: the same numbers."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from test_sweep import sweep

from rfray.engine.executor import Ended, InProcessExecutor
from rfray.engine.worker import run_job

SWEEP = """\
name: beside
axes:
  dataset: [digits]
  arch: [vgg19_rf, resnet50]
  kernel_size: [3]
  seed: [0, 1]
  width: [0.0625]
train: {epochs: 1, batch_size: 32, images_per_epoch: 64, learning_rate: 0.02, precision: float32}
prune: {rates: [0.5]}
finetune: {epochs: 1, batch_size: 32, images_per_epoch: 32, precision: float32}
hessian: {at: [init, trained], n: 2, images: 8, tolerance: 0.001, probes: 2, steps: 4}
cka: {images: 64, at: [trained, init]}
barrier: {points: 3, train_images: 128, statistics_images: 128, align: weights}
erf: {images: 16, most_layers: 3}
probe: {images: 100, test_images: 100}
saturation: {images: 200}
importance: {draws: 2, image_size: 32}
"""
TIMES = {"epoch_seconds", "wall_seconds"}
COUNTED = {"accuracy", "barrier", "tail_start", "probe"}
"""Of images: one that lies on the edge may fall on the other side."""
OF_THE_WAY = {"residual", "products", "converged_eigenvalues", "trace_standard_error"}
"""How an iteration came to its numbers; its last digits are another's."""
TRAINING = {"train", "finetune"}
"""Whose rounding grows from step to step: tests/gpu/test_gpu_training.py compares their steps."""


class OnBoth(InProcessExecutor):
    """Runs each job on the processor, whose result counts, and once more on the card."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.pairs, self.left = [], {}

    def events(self, timeout):
        job = self._waiting[0] if self._waiting else None
        told = super().events(timeout)
        if job is None:
            return told
        (here,) = (event.outcome for event in told if isinstance(event, Ended))
        apart = self.folder / job.key
        beside = job.model_copy(
            update={
                "device": "cuda",
                "artifact_uri": str(apart / "artifacts"),
                "checkpoint": str(apart / "checkpoint"),
            }
        )
        there = run_job(beside, lambda _: None)
        self.pairs.append((job, here, there))
        self.left[job.name] = torch.cuda.memory_reserved()
        return told


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("both")
    path = folder / "beside.yaml"
    path.write_text(SWEEP)
    executor = OnBoth(folder / "card")
    sweep(path, folder / "results", executor=lambda: executor)
    return executor


SMALL = 32 * 2**20


def last(outcome):
    return {m.metric: m.value for m in outcome.measurements if m.metric not in TIMES}


def test_every_stage_ends_on_both(both):
    assert [there.reason for _, _, there in both.pairs if there.status != "finished"] == []
    counts = Counter(job.stage for job, _, _ in both.pairs)
    assert set(counts) == {
        "train", "prune", "finetune", "hessian", "cka", "barrier", "erf", "probe", "saturation",
        "importance",
    }  # fmt: skip


def test_the_numbers_are_the_same_to_rounding(both):
    wrong = []
    for job, here, there in both.pairs:
        ours, theirs = last(here), last(there)
        assert ours.keys() == theirs.keys()
        compared = {} if job.stage in TRAINING else ours
        for name, value in compared.items():
            if name in OF_THE_WAY:
                continue
            loose = any(word in name for word in COUNTED)
            allowed = (
                pytest.approx(value, rel=0.02, abs=1.5)
                if loose
                else pytest.approx(value, rel=5e-3, abs=1e-5)
            )
            if theirs[name] != allowed:
                wrong.append((job.name, name, value, theirs[name]))
    assert wrong == []


def test_behind_each_stage_the_card_is_as_empty_as_before(both):
    assert max(both.left.values()) <= SMALL, both.left


def test_the_run_names_its_card(both):
    assert {there.hardware for _, _, there in both.pairs} == {torch.cuda.get_device_name()}
