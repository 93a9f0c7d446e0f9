"""What tests share: a tiny study, and a folder of their own for prepared data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

TINY_SWEEP = """\
name: tiny
axes:
  dataset: [digits]
  arch: [vgg19_rf]
  kernel_size: [5]
  seed: [0, 1]
  width: [0.0625]
train: {epochs: 1, batch_size: 32, images_per_epoch: 64, gradient_clip: 1.0}
prune: {rates: [0.5, 0.9]}
finetune: {epochs: 1, batch_size: 32, images_per_epoch: 32}
hessian: {at: [init], n: 2, images: 4, tolerance: 0.1, probes: 1, steps: 3}
cka: {images: 16}
importance: {draws: 2, image_size: 32}
"""
"""Two networks and every stage: 2 × (train, 2 prune, 2 finetune, 1 hessian) + cka + importance."""

TINY_RUNS = 14


@pytest.fixture(scope="session", autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("data")
    before = dict(os.environ)
    os.environ["RFRAY_DATA"] = str(folder)
    for name in ("MLFLOW_TRACKING_URI", "RFRAY_SWEEP"):
        os.environ.pop(name, None)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny_sweep(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SWEEP)
    return path
