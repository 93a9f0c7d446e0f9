"""One MLflow store on sqlite for all tests of the analysis: each test has a study of its own."""

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from written_study import Writer, study_document, write_realistic

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
def shipped():
    """The shipped report file."""
    return Path(__file__).parents[2] / "analysis" / "paper.yaml"
