"""What tests share: a tiny study, and a folder of their own for prepared data."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from tiny_study import TINY_REPORT, TINY_SWEEP

if TYPE_CHECKING:
    from rfray.storage import Storage

# PyTorch, MLflow and rfray are imported below: pytest's first process, which hands the tests to two
# others, needs none of them, and these wait for it.


def pytest_configure(config: pytest.Config) -> None:
    """A new store is a copy of one that was made in this session: MLflow takes seconds for each.

    Before the tests are collected: they import the function by its name.
    """
    if config.option.dist != "no":  # the tests run in other processes
        return
    gc.disable()  # until all is imported
    from mlflow.store.db import utils

    from rfray import tracking

    make = tracking.make_database
    folder = TemporaryDirectory()
    template = Path(folder.name) / "empty.db"

    def copied(path: Path) -> None:
        if not path.is_file() and path.parent.is_dir():
            make(template)
            try:
                shutil.copyfile(template, path)
            except OSError:  # a test of a disk that is full: MLflow's own attempt is what it is for
                path.unlink(missing_ok=True)
        make(path)

    tracking.make_database = copied
    # Each store that is opened would read MLflow's seventy migrations for their last one.
    utils._get_latest_schema_revision = cache(utils._get_latest_schema_revision)
    config.add_cleanup(folder.cleanup)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file run in one process, so that what its fixtures make is made once.

    The last file by its name is a long one, and comes first: at the end one process would wait for
    it.
    """
    items.sort(key=lambda item: item.path.stem != "test_wheel")
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_finish() -> None:
    """What is imported by now stays: no collection of garbage, a second each, looks through it."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Otherwise Triton complains of what is left when Python ends."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("data")
    before = dict(os.environ)
    os.environ["RFRAY_DATA"] = str(folder)
    # A server would start ten processes for jobs that rfray has none of, 40 s of one core.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    for name in ("MLFLOW_TRACKING_URI", "RFRAY_SWEEP"):
        os.environ.pop(name, None)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def debians_fashion_mnist() -> Path:
    """The folder of Debian's package; see `program` in analysis/conftest.py for where it is not."""
    from rfray.data.array_sets import DEBIANS_FASHION_MNIST

    folder = DEBIANS_FASHION_MNIST
    if not folder.is_dir():
        required = os.environ.get("RFRAY_TEST_PROGRAMS") == "required"
        message = "no Fashion-MNIST on this machine: apt-get install dataset-fashion-mnist"
        (pytest.fail if required else pytest.skip)(message)
    return folder


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """One database, in which each test has a study of its own: making one takes a while."""
    from rfray import tracking
    from rfray.storage import storage_at

    made = storage_at(str(tmp_path_factory.mktemp("results")), None)
    made.make()
    tracking.make_database(made.database)
    return made


@pytest.fixture
def tiny_sweep(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SWEEP)
    return path


@pytest.fixture
def tiny_report(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-report.yaml"
    path.write_text(TINY_REPORT)
    return path
