"""A sweep on a real Ray that believes in two GPUs: who is given which, and what it sees."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest
from command_line import rfray_anew
from own_head import own_head, plain_environment

from rfray.engine.places import Machine, Occupancy
from rfray.engine.ray_executor import changes_cards
from rfray.storage import storage_at
from rfray.tracking import Ledger

PRETENDED = str(Path(__file__).parent / "pretended_gpus")
TWO_CELLS = """\
name: two
axes:
  {dataset: [digits], arch: [vgg19_rf], kernel_size: [5], seed: [0, 1], width: [0.03125]}
train: {epochs: 1}
prune: {rates: [0.5, 0.9]}
resources: {prune: {cpus: 2}}
"""
"""Two of the four prunes run at a time: beside each other, and processes could be used again."""


PATH = os.pathsep.join([PRETENDED, *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(scope="module")
def head():
    with own_head(None, cpus=4, gpus=2, PYTHONPATH=PATH) as started:
        yield started


def swept(head, folder, *overrides):
    """What each job was given, by the stage."""
    (folder / "two.yaml").write_text(TWO_CELLS)
    words = ["sweep", "two.yaml", "--storage", "results", "--address", head.address, *overrides]
    result = rfray_anew(*words, cwd=folder, environment=plain_environment(folder))
    assert result.returncode == 0, result.stderr + result.stdout
    found = defaultdict(list)
    for run in Ledger(storage_at(str(folder / "results"), None).tracking_uri).runs("two"):
        found[run.tags["rfray.stage"]].append(json.loads(run.tags["rfray.remark"]))
    return found


@pytest.fixture(scope="module")
def given(head, tmp_path_factory):
    return swept(head, tmp_path_factory.mktemp("two"))


pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("own_head")]


def test_two_cells_train_at_once_each_on_a_whole_gpu_that_it_alone_sees(given):
    cells = given["train"]
    assert {(cell["device"], cell["share"]) for cell in cells} == {("cuda", 1.0)}
    assert sorted(cell["visible"] for cell in cells) == list("01")
    assert max(cell["began"] for cell in cells) < min(cell["ended"] for cell in cells)


def test_what_follows_has_a_quarter_of_one_and_no_gpu_is_given_away_twice(given):
    assert {(job["device"], job["share"]) for job in given["prune"]} == {("cuda", 0.25)}
    jobs = given["train"] + given["prune"]
    for one in jobs:
        beside = [
            job["share"]
            for job in jobs
            if job["visible"] == one["visible"] and job["began"] <= one["began"] < job["ended"]
        ]
        assert sum(beside) <= 1


def test_no_process_is_ever_given_another_gpu_than_its_first(given):
    """It would go on computing on the first one: CUDA looks once which it may see."""
    seen = defaultdict(set)
    for job in given["train"] + given["prune"]:
        seen[job["process"]].add(job["visible"])
    assert all(len(cards) == 1 for cards in seen.values())
    assert len({job["process"] for job in given["prune"]}) == len(given["prune"])


def test_auto_changes_the_share_of_trials_one_by_one_and_again_where_it_was_too_little(
    head, tmp_path
):
    """One at a time, for want of cores: what Tune keeps of the last must not block the next."""
    one_by_one = ("resources.train.cpus=4", "train.epochs=2", "prune=false")
    cells = swept(head, tmp_path, *one_by_one, "resources.train.gpus=auto")["train"]
    in_order = sorted(cells, key=lambda cell: cell["began"])
    assert [cell["share"] for cell in in_order] == [1.0, 0.5]
    assert sum(cell["again"] for cell in cells) == 1


@pytest.mark.parametrize(
    ("gpus", "machines", "changes"),
    [(0.25, [1, 1], False), (0.25, [1, 8], True), (0, [8], False), (1, [4], True)],
    ids=["where each machine has one GPU processes stay warm", "one machine has several",
         "a task without a GPU", "whole GPUs too"],
)  # fmt: skip
def test_processes_are_for_one_task_where_a_machine_has_several_gpus(gpus, machines, changes):
    offered = [Machine(Occupancy(8, cards), 0) for cards in machines]
    assert changes_cards(Occupancy(1, gpus), offered) is changes
