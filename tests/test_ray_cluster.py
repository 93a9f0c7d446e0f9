"""`rfray sweep --address` against real heads of `ray start --head`, with a token and without."""

from __future__ import annotations

import json

import pytest
from command_line import rfray_anew
from outside_packages import stage_file
from own_head import own_head, plain_environment, put_token

from rfray.tracking import Ledger

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("own_head")]

TOKEN = "0123456789abcdef" * 4
ONE_NETWORK = """\
name: one
axes: {dataset: [digits], arch: [vgg19_rf], kernel_size: [5], seed: [0], width: [0.03125]}
train: {epochs: 1, batch_size: 32, images_per_epoch: 64}
"""
IMPORTANCE_ALONE = ("train=false", "importance={draws: 2, image_size: 32}")
"""One short task. The trials of a sweep with a token: tests/cluster/rehearse.py, on machines."""


def join(words):
    """Join a cluster as a sweep does, and ask an actor there for a number.

    An actor: where the head asks for no token, it is what a driver that shows one loses.
    """
    import ray

    from rfray.engine.ray_start import start_ray

    class Actor:
        def answer(self):
            return 42

    start_ray(words[0] if words else None)
    print(ray.get(ray.remote(num_cpus=0)(Actor).remote().answer.remote()))


@pytest.fixture(scope="module")
def guarded():
    with own_head(TOKEN) as head:
        yield head


@pytest.fixture(scope="module")
def unguarded():
    with own_head(None) as head:
        yield head


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def joined(home, *address, **variables):
    return rfray_anew(
        *address, cwd=home, environment=plain_environment(home, **variables), run=join
    )


def swept(home, *arguments, **variables):
    sweep = home.parent / "one.yaml"
    sweep.write_text(ONE_NETWORK)
    words = ["sweep", sweep, *arguments, "--storage", home.parent / "results"]
    return rfray_anew(*words, cwd=home.parent, environment=plain_environment(home, **variables))


def assert_refused(result, *says):
    """One line, and nothing that Ray says of itself."""
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("rfray: ")
    for words in says:
        assert words in line


def assert_in(result):
    assert (result.returncode, result.stdout, result.stderr) == (0, "42\n", "")


def test_a_token_in_home_lets_a_sweep_in_and_ray_says_nothing(guarded, home):
    put_token(home, TOKEN)
    result = swept(home, *IMPORTANCE_ALONE, "--address", guarded.address)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "rfray analyze --study one" in result.stdout


def test_a_token_in_the_environment_lets_in(guarded, home, tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert_in(joined(home, guarded.address, RAY_AUTH_TOKEN=TOKEN))
    assert_in(joined(home, guarded.address, RAY_AUTH_TOKEN_PATH=str(file)))
    assert_in(joined(home, RAY_ADDRESS=guarded.address, RAY_AUTH_TOKEN=TOKEN))


def test_auto_finds_the_cluster_of_this_machine_and_its_token(guarded, home):
    put_token(home, TOKEN)
    assert_in(joined(home, "auto", RAY_TMPDIR=str(guarded.temporary)))


def test_more_than_any_machine_has_is_refused(unguarded, home):
    words = ["resources.train.cpus=4096", "--address", unguarded.address]
    assert_refused(swept(home, *words), "asks for 4096 CPUs")


def test_the_doctor_counts_the_machines_of_a_cluster(unguarded, home):
    words = ["doctor", "--address", unguarded.address, "--json"]
    examined = rfray_anew(*words, cwd=home, environment=plain_environment(home))
    (ray,) = [one for one in json.loads(examined.stdout) if one["subject"] == "Ray"]
    assert ray["well"]
    assert ray["words"].startswith("1 machines: ")


def test_a_missing_token_is_told(guarded, home):
    assert_refused(
        swept(home, "--address", guarded.address),
        f"--address {guarded.address}: the cluster asks for a token, but there is none here",
        "set RAY_AUTH_TOKEN",
    )


def test_a_wrong_token_is_told_and_where_it_lies(guarded, home):
    put_token(home, TOKEN[::-1])
    result = swept(home, RAY_ADDRESS=guarded.address)
    assert_refused(
        result,
        f"RAY_ADDRESS={guarded.address}: the cluster asks for another token than the one in",
        str(home / ".ray" / "auth_token"),
    )
    assert "--address" not in result.stderr
    assert TOKEN[::-1] not in result.stderr


def test_a_head_that_asks_for_no_token_takes_those_with_one_and_those_without(unguarded, home):
    assert_in(joined(home, unguarded.address))
    put_token(home, TOKEN)
    assert_in(joined(home, unguarded.address))
    assert_in(joined(home, unguarded.address, RAY_AUTH_MODE="token"))


def test_a_token_file_that_is_missing_matters_only_where_a_token_is_asked_for(
    guarded, unguarded, home
):
    assert_in(joined(home, unguarded.address, RAY_AUTH_TOKEN_PATH="/missing"))
    assert_refused(
        swept(home, "--address", guarded.address, RAY_AUTH_TOKEN_PATH="/missing"),
        "RAY_AUTH_TOKEN_PATH=/missing: Ray's token cannot be read",
    )


def test_a_cluster_computes_a_stage_of_a_file_that_only_the_driver_could_read(unguarded, home):
    plugin = home.parent / "counts.py"
    # It is gone once the driver has read it: the cluster's worker has it from the driver.
    goes = "from pathlib import Path\nPath(__file__).unlink(missing_ok=True)\n"
    plugin.write_text(stage_file() + goes)
    words = ["train=false", "plugins=[counts.py]", "counted={}", "--address", unguarded.address]
    result = swept(home, *words)
    assert result.returncode == 0, result.stderr
    assert not plugin.exists()
    (run,) = Ledger(f"sqlite:///{home.parent}/results/mlflow.db").runs("one")
    assert (run.status, run.metrics["layers"] > 10) == ("FINISHED", True)


def test_where_no_home_can_be_written_a_sweep_here_is_refused(home):
    (home / ".ray").touch()
    assert_refused(swept(home), "Ray does not start", str(home / ".ray"))
