"""One MLflow store on sqlite for all tests of the analysis: each test has a study of its own."""

import os
import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from written_study import Writer, cell, study_document, write_realistic

from rfray.analysis import analyze, load_report
from rfray.tracking import Ledger


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Folder of the store."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def uri(store):
    return f"sqlite:///{store}/mlflow.db"


@pytest.fixture(scope="session")
def client(uri):
    return MlflowClient(tracking_uri=uri)


@pytest.fixture(scope="session")
def ledger(uri):
    return Ledger(uri)


@pytest.fixture
def write(client, store, request):
    """Makes a writer for this test's study, with the given document or none."""
    return lambda document=None: Writer(client, request.node.name, document, store)


@pytest.fixture(scope="session")
def realistic(client, store):
    """Name of a finished study with every stage."""
    document = study_document(kernel_size=[2, 5])
    write_realistic(Writer(client, "realistic", document, store), document)
    return "realistic"


@pytest.fixture(scope="session")
def program():
    """Finds a program outside Python that a test looks at results with.

    Where there is none, the test is skipped and says so; where RFRAY_TEST_PROGRAMS=required, as in
    CI, it fails.
    """

    def find(name, package):
        path = shutil.which(name)
        if path is None:
            message = f"no {name} on this machine: apt-get install {package}"
            required = os.environ.get("RFRAY_TEST_PROGRAMS") == "required"
            (pytest.fail if required else pytest.skip)(message)
        return path

    return find


@pytest.fixture(scope="session")
def half_done(client, store):
    """Name of a study at the paper's setting of which much is missing, each for another reason."""
    document = study_document(
        dataset=["cifar10"], width=[1.0], kernel_size=[2, 3, 4, 5], seed=[0, 1, 2], cka=None
    )
    writer = Writer(client, "half-done", document, store)
    whole = study_document(dataset=["cifar10"], width=[1.0], kernel_size=[2, 3])
    write_realistic(writer, whole)

    def params(k, seed):
        return {**cell(dataset="cifar10", width=1.0, k=k, seed=seed), "epochs": 2}

    error = f"<script>alert('50 % & more')</script> in {'a_very_long_path/' * 12} 日本 → é #1 $x^2$"
    writer.run("train", params(2, 2), status="FAILED", tags={"rfray.error": error})
    writer.run("train", params(3, 2), {"test_accuracy": float("nan")})
    again = {"test_accuracy": [80.0, 94.5], "train_loss": [1.0, 0.5]}
    writer.run("train", params(2, 1), again)
    writer.run("train", params(4, 2), status="RUNNING")
    return writer.study


@pytest.fixture(scope="session")
def half_done_report(half_done, ledger, shipped, tmp_path_factory):
    """Folder of the shipped report on the study of which much is missing."""
    return analyze(ledger, half_done, load_report(shipped), tmp_path_factory.mktemp("half")).out


@pytest.fixture(scope="session")
def shipped():
    """The shipped report file."""
    return Path(__file__).parents[2] / "analysis" / "paper.yaml"
