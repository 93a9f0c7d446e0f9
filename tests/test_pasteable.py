"""A command that rfray prints means the same when it is pasted into a shell."""

from __future__ import annotations

import shlex

import pytest

from rfray.analysis.links import ui_command
from rfray.commands.pasteable import build_tables, compare_runs, sweep_again
from rfray.errors import UserError
from rfray.storage import storage_at
from rfray.tracking import LedgerWriter, make_database

AWKWARD = ["plain", "sp ace", "it's", "a&b;c", "$HOME", "a#b", "5%"]


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize("name", AWKWARD)
def test_next_steps_name_the_folder_whatever_its_name(tmp_path, name):
    place = storage_at(str(tmp_path / name), None)
    assert shlex.split(compare_runs(place)) == [
        "mlflow", "ui", "--backend-store-uri", f"sqlite:///{tmp_path / name}/mlflow.db",
    ]  # fmt: skip
    assert shlex.split(build_tables(place, "tiny")) == [
        "rfray", "analyze", "--study", "tiny", "--storage", str(tmp_path / name),
    ]  # fmt: skip
    assert shlex.split(ui_command(place.tracking_uri)) == shlex.split(compare_runs(place))


def test_next_steps_of_a_server_name_its_address(tmp_path):
    place = storage_at(str(tmp_path), "http://127.0.0.1:5000/?a&b")
    assert shlex.split(compare_runs(place)) == ["open", "http://127.0.0.1:5000/?a&b"]
    assert shlex.split(build_tables(place, "tiny"))[-2:] == [
        "--tracking-uri", "http://127.0.0.1:5000/?a&b",
    ]  # fmt: skip


def test_a_sweep_is_resumed_as_it_was_started():
    options = {"--storage": "sp ace", "--address": None}
    command = sweep_again(["my sweep.yaml", "axes.seed=[0,1]"], options)
    assert shlex.split(command)[3:] == ["my sweep.yaml", "axes.seed=[0,1]", "--storage", "sp ace"]


def test_a_deleted_study_comes_with_the_command_that_restores_it(tmp_path):
    place = storage_at(str(tmp_path / "sp ace"), None)
    place.make()
    make_database(place.database)
    ledger = LedgerWriter(place.tracking_uri, "tiny")
    experiment = ledger.client.get_experiment_by_name("tiny").experiment_id
    ledger.client.delete_experiment(experiment)
    with pytest.raises(UserError) as refusal:
        LedgerWriter(place.tracking_uri, "tiny")
    command = refusal.value.do.split("`")[1]
    assert shlex.split(command) == [
        f"MLFLOW_TRACKING_URI={place.tracking_uri}",
        "mlflow", "experiments", "restore", "-x", experiment,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["what?", "a%20b", "%41"])
def test_a_folder_that_a_database_address_cannot_name_is_refused(tmp_path, name):
    with pytest.raises(
        UserError, match=r"cannot contain the.*of this folder's name.*--storage DIR"
    ):
        storage_at(str(tmp_path / name), None)
    # With a server the folder stands in no database's address.
    assert storage_at(str(tmp_path / name), "http://127.0.0.1:5000").root == tmp_path / name


@pytest.mark.parametrize("name", AWKWARD)
def test_any_other_folder_holds_a_database(tmp_path, name):
    place = storage_at(str(tmp_path / name), None)
    place.make()
    make_database(place.database)
    LedgerWriter(place.tracking_uri, "tiny")
    assert place.database.is_file()
