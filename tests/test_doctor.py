"""What `rfray doctor` finds, and what it says to do."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from rfray.cli import rfray
from rfray.commands import doctor


@pytest.fixture
def examined(tmp_path, tiny_sweep):
    def run(*arguments):
        command = ["doctor", str(tiny_sweep), "--storage", str(tmp_path / "results"), *arguments]
        answer = CliRunner().invoke(rfray, [*command, "--json"])
        return answer.exit_code, {one["subject"]: one for one in json.loads(answer.output)}

    return run


def test_a_machine_that_runs_the_tests_is_well_and_nothing_is_made(examined, tmp_path):
    code, found = examined()
    assert code == 0, found
    assert list(found)[:5] == ["Python", "torch", "torchvision", "ray", "mlflow"]
    assert {"GPUs", "machine", "disk", "digits", "tracking store", "Ray"} <= set(found)
    assert not (tmp_path / "results").exists()


def test_a_store_that_is_there_is_asked_for_its_studies(examined, storage):
    code, found = examined("--storage", str(storage.root))
    assert code == 0
    assert found["tracking store"]["words"] == f"{storage.tracking_uri}, 0 studies"


def test_a_tracking_server_that_does_not_answer_is_named_and_the_rest_still_looked_at(examined):
    code, found = examined("--tracking-uri", "http://127.0.0.1:9")
    assert code == 1
    assert not found["tracking store"]["well"]
    assert "127.0.0.1:9" in found["tracking store"]["words"]
    assert found["Ray"]["well"]


def test_a_cluster_that_does_not_answer_is_named(examined):
    code, found = examined("--address", "127.0.0.1:9")
    assert code == 1
    assert "no Ray cluster answers" in found["Ray"]["words"]
    assert found["Ray"]["do"]


@pytest.mark.parametrize(
    ("finding", "words", "do"),
    [
        (doctor.package_finding("no-such-package"), "not installed", "pip install"),
        (doctor.gpu_finding([], has_driver=True), "PyTorch sees no GPU", "install a PyTorch"),
        (doctor.memory_finding(2, 2**30), "2 cores, 1.0 GiB", "close other programs"),
    ],
)
def test_what_is_wrong_comes_with_what_to_do(finding, words, do):
    assert not finding.well
    assert words in finding.words
    assert do in finding.do


def test_a_full_disk_is_told_before_a_sweep_fills_it(tmp_path):
    assert doctor.disk_finding(tmp_path, 100 * 2**30).well
    full = doctor.disk_finding(tmp_path, 2**30)
    assert not full.well
    assert "1 GiB free" in full.words
    assert "--storage" in full.do


def test_no_gpu_is_nothing_wrong():
    assert doctor.gpu_finding([], has_driver=False).well
    assert doctor.gpu_finding(["H100 (80 GiB)"], has_driver=True).words == "H100 (80 GiB)"
