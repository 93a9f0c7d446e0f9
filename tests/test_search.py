"""A search: what is drawn, what it chooses, what trains with it, and what is refused."""

from __future__ import annotations

import json
import math
import re
import shlex
import statistics
from collections import Counter
from pathlib import Path

import pytest
from tiny_study import TINY_SWEEP

from rfray.analysis import analyze, load_report
from rfray.driver.sweep_run import prepared, run_sweep
from rfray.engine.executor import InProcessExecutor
from rfray.engine.frontier import State
from rfray.engine.view import Watcher
from rfray.errors import UserError
from rfray.plan import make_plan
from rfray.search.draws import draws, proposed
from rfray.search.space import Domain, Proposal, at_edge, best, rounds
from rfray.seeding import stream_seed
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study
from rfray.tracking import Ledger

ROOT = Path(__file__).resolve().parent.parent
ONLY_TRAINING = ["prune=false", "finetune=false", "hessian=false", "cka=false", "importance=false"]
SEARCH = """\
data: {validation: 300}
search:
  space:
    train.learning_rate: {log_uniform: [1e-3, 1]}
    train.weight_decay: {choice: [0, 5e-5, 5e-4]}
  samples: 3
"""
SILENT = Watcher(ended=lambda ending: None, looked=lambda view: None)


@pytest.fixture
def searched(tmp_path):
    """What plans the tiny study with a search, in its training alone."""
    path = tmp_path / "searched.yaml"
    path.write_text(TINY_SWEEP + SEARCH)
    return lambda *overrides: make_plan(load_study(str(path), [*ONLY_TRAINING, *overrides]))


def of_stage(plan, stage):
    return [node for node in plan.nodes.values() if node.stage == stage]


def swept(plan, folder, stop=lambda: False, watcher=SILENT):
    storage = storage_at(str(folder), None)
    with prepared(plan, storage) as ready:
        frontier = run_sweep(ready, storage, InProcessExecutor, watcher, stop)
    return frontier, {run.name: run for run in Ledger(storage.tracking_uri).runs("tiny")}


# What is drawn


def test_values_lie_where_their_domain_says():
    space = {
        "a": Domain(log_uniform=[0.001, 1]),
        "b": Domain(integers=[3, 5]),
        "c": Domain(choice=["sgd", "adamw"]),
    }
    drawn = draws(space, 200)
    assert all(0.001 <= choice["a"] <= 1 for choice in drawn)
    assert sum(choice["a"] < 0.0316 for choice in drawn) == pytest.approx(100, abs=25)
    assert {choice["b"] for choice in drawn} == {3, 4, 5}
    assert {choice["c"] for choice in drawn} == {"sgd", "adamw"}


def test_further_samples_and_settings_leave_what_was_drawn():
    one = {"a": Domain(uniform=[0, 1])}
    few, many = draws(one, 4), draws({**one, "b": Domain(integers=[1, 9])}, 8)
    assert [choice["a"] for choice in many][:4] == [choice["a"] for choice in few]


def test_samples_that_are_alike_are_tried_once():
    assert len(draws({"a": Domain(choice=[1, 2])}, 50)) == 2


# What is proposed

LINE = {
    "train.learning_rate": Domain(log_uniform=[1e-4, 1]),
    "train.momentum": Domain(uniform=[0, 1]),
}


def closeness(choice):
    """Highest where the learning rate is 0.1 and the momentum 0.9."""
    rate, momentum = choice["train.learning_rate"], choice["train.momentum"]
    return -((math.log10(rate) + 1) ** 2) - (momentum - 0.9) ** 2


def learned(samples, *, startup=8, at_once=4, space=LINE, value=closeness):
    """What a whole search tries, in rounds."""
    tried = [(choice, value(choice)) for choice in draws(space, startup)]
    for numbers in rounds(startup, samples, at_once):
        choices = [
            proposed(
                Proposal(space=space, startup=startup, place=place), tried, "validation_accuracy"
            )
            for place in range(len(numbers))
        ]
        tried += [(choice, value(choice)) for choice in choices]
    return tried


def test_rounds_go_on_behind_what_was_drawn():
    assert rounds(8, 15, 4) == [range(8, 12), range(12, 15)]
    assert rounds(8, 8, 4) == []


def test_proposals_come_nearer_than_draws_do():
    proposals = [value for _, value in learned(40)[8:]]
    drawn = [closeness(choice) for choice in draws(LINE, 40)[8:]]
    assert statistics.median(proposals) > statistics.median(drawn) / 2
    assert max(proposals) > max(drawn)


def test_a_proposal_follows_from_what_was_tried_alone():
    assert learned(16) == learned(16)
    assert learned(20)[:16] == learned(16)


def test_proposals_agree_with_optuna_asked_directly():
    optuna = pytest.importorskip("optuna")
    tried = learned(8)
    distributions = {
        "train.learning_rate": optuna.distributions.FloatDistribution(1e-4, 1, log=True),
        "train.momentum": optuna.distributions.FloatDistribution(0, 1),
    }
    sampler = optuna.samplers.TPESampler(
        seed=stream_seed(0, "proposal", len(tried)) % 2**32, n_startup_trials=8
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for choice, value in tried:
        study.add_trial(
            optuna.trial.create_trial(params=choice, distributions=distributions, value=value)
        )
    expected = [study.ask(distributions).params for _ in range(3)]
    assert [
        proposed(Proposal(space=LINE, startup=8, place=place), tried, "validation_accuracy")
        for place in range(3)
    ] == expected


def test_what_diverged_is_told_as_failed_and_not_repeated():
    space = {"train.momentum": Domain(choice=[0.0, 0.5, 0.9])}
    tried = [({"train.momentum": 0.0}, None), ({"train.momentum": 0.9}, 50.0)]
    choice = proposed(Proposal(space=space, startup=1, place=0), tried, "validation_accuracy")
    assert choice == {"train.momentum": 0.5}


# What is chosen


def test_the_best_is_the_highest_accuracy_and_the_lowest_loss():
    assert best([10.0, 30.0, 30.0, 20.0], "validation_accuracy") == 1
    assert best([3.0, 1.0, 2.0], "validation_loss") == 1


@pytest.mark.parametrize(
    ("chosen", "tried", "end"),
    [
        (0.1, [0.1, 0.2, 0.3], "lowest"),
        (0.3, [0.1, 0.2, 0.3], "highest"),
        (0.2, [0.1, 0.2, 0.3], None),
        (0.1, [0.1, 0.2], None),
        ("sgd", ["sgd", "adamw", "x"], None),
    ],
)
def test_the_edge_is_an_end_of_what_was_tried(chosen, tried, end):
    assert at_edge(chosen, tried) == end


# The plan


def test_each_group_has_its_samples_and_one_search_that_its_cells_read(searched):
    plan = searched("axes.kernel_size=[2, 5]")
    assert Counter(node.stage for node in plan.nodes.values()) == {
        "sample": 6, "search": 2, "train": 4,
    }  # fmt: skip
    for node in of_stage(plan, "train"):
        (key,) = node.inputs
        assert plan.nodes[key].stage == "search"
        assert plan.nodes[key].cells[0].kernel_size == node.cells[0].kernel_size
        assert node.parent == key
        assert not {"learning_rate", "weight_decay"} & set(node.params)
    assert {node.cells[0].seed for node in of_stage(plan, "sample")} == {0}


def test_further_samples_keep_those_that_are_done(searched):
    few, many = searched(), searched("search.samples=5")
    assert {n.key for n in of_stage(few, "sample")} < {n.key for n in of_stage(many, "sample")}
    assert not {n.key for n in of_stage(few, "train")} & {n.key for n in of_stage(many, "train")}


def test_what_is_searched_has_no_value_of_its_own_in_a_key(searched):
    assert set(searched().nodes) == set(searched("train.learning_rate=0.7").nodes)


KEYS_BEFORE_THERE_WERE_SEARCHES = {
    "vgg19_rf-digits-k5-seed0/train": "c9709dee5ff0894fb36be2c268572027",
    "vgg19_rf-digits-k5/cka": "d0073287c20832e2425e7bfc5916ebf0",
    "vgg19_rf-digits-k5-seed0/finetune-0.9": "024107a787eb20d75f795b4e5d3c518f",
}


def test_without_a_search_keys_are_what_they_were(tiny_sweep):
    keys = {node.name: key for key, node in make_plan(load_study(str(tiny_sweep))).nodes.items()}
    assert {name: keys[name] for name in KEYS_BEFORE_THERE_WERE_SEARCHES} == (
        KEYS_BEFORE_THERE_WERE_SEARCHES
    )


OPTUNA = ["search.algorithm=optuna", "search.startup=3", "search.at_once=2", "search.samples=7"]


def test_each_round_of_optuna_reads_all_samples_before_it(searched):
    samples = of_stage(searched(*OPTUNA), "sample")
    assert [len(node.inputs) for node in samples] == [0, 0, 0, 3, 3, 5, 5]
    assert samples[5].inputs == tuple(node.key for node in samples[:5])
    assert not {"learning_rate", "train.learning_rate", "weight_decay"} & set(samples[5].params)
    assert len({node.key for node in samples}) == 7


def test_what_optuna_begins_with_is_what_a_random_search_tried(searched):
    drawn = {node.key for node in of_stage(searched(), "sample")}
    further = [*OPTUNA, "search.samples=9"]
    keys = [{n.key for n in of_stage(searched(*o), "sample")} for o in (OPTUNA, further)]
    assert drawn < keys[0] < keys[1]


def test_a_small_space_has_no_more_samples_than_choices(searched):
    space = "search.space={train.weight_decay: {choice: [0, 5e-5, 5e-4, 5e-3]}}"
    assert len(of_stage(searched(*OPTUNA, space), "sample")) == 4


# What is refused


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.validation=null"], "images that are held out"),
        (["search.space={}"], "the space is empty"),
        (["search.metric=validation_acuracy"], "did you mean 'validation_accuracy'"),
        (["search.metric=test_accuracy"], "must not choose settings"),
        (["search.space={train.learning_rat: {uniform: [0, 1]}}"], "did you mean 'train.l"),
        (["search.space={prune.criterion: {choice: [lamp]}}"], "not a setting of train"),
        (["axes.train.learning_rate=[0.1, 0.2]"], "is searched, and an axis as well"),
        (
            ["when=[{if: {seed: 1}, set: {train.learning_rate: 0.1}}]"],
            "is searched, and set by `when` as well",
        ),
        (["search.space={train.learning_rate: {uniform: [1, 0]}}"], "the range is empty"),
        (["search.space={train.learning_rate: {log_uniform: [0, 1]}}"], "must begin above 0"),
        (["search.space={train.learning_rate: {uniform: [-1, 1]}}"], "greater than 0"),
        (["search.space={train.optimizer: {choice: [sdg]}}"], "'sgd' or 'adamw'"),
        (["search.space={train.nesterov: {choice: [true]}}", "train.momentum=0.0"], "nesterov"),
        (["axes.kernel_size=[2, 5]", "search.per=[arch]"], "add 'kernel_size' to search.per"),
        (["search.per=[seed]"], "every search is for all seeds"),
        (["train=false"], "a search tries settings of training"),
        (["search.scheduler=hyperband"], "'none' or 'asha'"),
        (["search.algorithm=optunna"], "'random' or 'optuna'"),
        (["search.algorithm=optuna", "search.startup=3"], "none is left for Optuna"),
    ],
)
def test_bad_input_is_one_line(searched, overrides, words):
    with pytest.raises(UserError) as refused:
        searched(*overrides)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


# The sweep


def test_seeds_train_with_what_won_and_every_number_says_so(searched, tmp_path):
    frontier, runs = swept(searched(), tmp_path / "results")
    assert set(frontier.states.values()) == {State.DONE}
    samples = [runs[f"vgg19_rf-digits-k5/sample-{number}"] for number in range(3)]
    winner = samples[
        best([s.metrics["validation_accuracy"] for s in samples], "validation_accuracy")
    ]
    search = runs["vgg19_rf-digits-k5/search"]
    trained = [runs[f"vgg19_rf-digits-k5-seed{seed}/train"] for seed in (0, 1)]
    for name in ("learning_rate", "weight_decay"):
        value = float(winner.params[name])
        assert float(search.params[f"train.{name}"]) == value
        assert search.metrics[f"train.{name}"] == value
        assert all(float(run.params[name]) == value for run in trained)
    # The winning sample is the training of the first seed.
    for metric in ("train_loss", "validation_loss", "validation_accuracy"):
        assert trained[0].metrics[metric] == winner.metrics[metric]
    assert not any("test" in metric for metric in winner.metrics)


def test_without_optuna_the_search_is_refused_in_one_line(searched, monkeypatch):
    monkeypatch.setattr("rfray.search.draws.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Optuna, which is not installed.*rfray\[optuna\]"):
        searched(*OPTUNA)


def test_samples_that_optuna_proposes_are_recorded_resumed_and_analysed(searched, tmp_path):
    plan, ended = searched(*OPTUNA), []

    def dies(ending):
        ended.append(ending.node.name)
        if len(ended) == 5:
            raise StoppedError

    with pytest.raises(StoppedError):
        swept(plan, tmp_path / "results", watcher=Watcher(ended=dies, looked=lambda view: None))
    frontier, runs = swept(plan, tmp_path / "results")
    assert set(frontier.states.values()) == {State.DONE}
    samples = [runs[f"vgg19_rf-digits-k5/sample-{number}"] for number in range(7)]
    tried = [
        (
            {f"train.{n}": float(run.params[n]) for n in ("learning_rate", "weight_decay")},
            run.metrics["validation_accuracy"],
        )
        for run in samples
    ]
    for number, place, known in ((3, 0, 3), (4, 1, 3), (6, 1, 5)):
        proposal = Proposal(space=plan.study.search_drawn.space, startup=3, place=place)
        expected = proposed(proposal, tried[:known], "validation_accuracy")
        assert tried[number][0] == pytest.approx(expected)
        assert (
            float(samples[number].params["train.learning_rate"])
            == tried[number][0]["train.learning_rate"]
        )
    assert runs["vgg19_rf-digits-k5/search"].metrics["samples_tried"] == 7
    ledger = Ledger(storage_at(str(tmp_path / "results"), None).tracking_uri)
    found = analyze(ledger, "tiny", load_report(ROOT / "analysis" / "paper.yaml"), tmp_path / "out")
    assert found.gaps == ()
    assert not found.left_out


class StoppedError(Exception):
    """The sweep is killed."""


def test_a_killed_search_goes_on_where_it_was(searched, tmp_path):
    plan, ended = searched(), []

    def dies(ending):
        ended.append(ending.node.name)
        if len(ended) == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        swept(plan, tmp_path, watcher=Watcher(ended=dies, looked=lambda view: None))
    again = []
    watcher = Watcher(ended=lambda e: again.append(e.node.name), looked=lambda view: None)
    frontier, runs = swept(plan, tmp_path, watcher=watcher)
    assert set(frontier.states.values()) == {State.DONE}
    assert not set(again) & set(ended)
    assert len(runs) == len(plan.nodes)
    assert {run.status for run in runs.values()} == {"FINISHED"}


def test_a_sample_that_diverges_is_a_result(searched, tmp_path):
    space = "search.space={train.learning_rate: {choice: [1e30, 0.1]}}"
    frontier, runs = swept(
        searched(space, "search.samples=9", "train.gradient_clip=null"), tmp_path
    )
    assert set(frontier.states.values()) == {State.DONE}
    search = runs["vgg19_rf-digits-k5/search"]
    assert search.metrics["samples_diverged"] == 1
    assert float(search.params["train.learning_rate"]) == 0.1


def test_with_the_best_checkpoint_a_sample_counts_as_its_best_epoch(searched, tmp_path):
    """As the training of the first seed would, which keeps those weights."""
    plan = searched("train.checkpoint=best", "train.epochs=3", "search.samples=2")
    _, runs = swept(plan, tmp_path)
    ledger = Ledger(storage_at(str(tmp_path), None).tracking_uri)
    samples = [run for name, run in runs.items() if "/sample-" in name]
    for run in samples:
        *epochs, reported = ledger.metric_history(run.run_id, "validation_accuracy")
        assert len(epochs) == 3
        best_epoch, highest = max(epochs, key=lambda entry: entry[1])
        assert (run.metrics["kept_epoch"], reported) == (best_epoch, (4, highest))
    winner = max(samples, key=lambda run: run.metrics["validation_accuracy"])
    trained = runs["vgg19_rf-digits-k5-seed0/train"]
    for metric in ("kept_epoch", "validation_accuracy"):
        assert trained.metrics[metric] == winner.metrics[metric]


def test_asha_stops_what_falls_behind_and_training_never(searched, tmp_path):
    plan = searched(
        "search.scheduler=asha", "search.metric=validation_loss", "search.samples=5",
        "train.epochs=5",
    )  # fmt: skip
    frontier, runs = swept(plan, tmp_path)
    assert set(frontier.states.values()) == {State.DONE}
    stopped = [run for run in runs.values() if "stopped_epoch" in run.metrics]
    assert stopped
    for run in stopped:
        assert "/sample-" in run.name
        assert run.status == "FINISHED"
        assert f"Stopped after epoch {run.metrics['stopped_epoch']:.0f} of 5" in run.tags[
            "rfray.remark"
        ]  # fmt: skip
    assert runs["vgg19_rf-digits-k5/search"].metrics["samples_stopped"] == len(stopped)


# What the docs show


def documented_command():
    """The overrides of the small version in sweeps/tuned.yaml."""
    text = (ROOT / "sweeps" / "tuned.yaml").read_text()
    (command,) = re.findall(r"rfray\.sweep tuned (.*?)\n# yaml", text, re.DOTALL)
    return shlex.split(command.replace("\\\n#", " "))


def test_the_small_version_of_tuned_is_searched_swept_and_analysed(tmp_path):
    overrides = [*documented_command(), "name=tiny", "train.images_per_epoch=256"]
    plan = make_plan(load_study("tuned", [*overrides, "train.epochs=2", "search.samples=3"]))
    frontier, runs = swept(plan, tmp_path / "results")
    assert set(frontier.states.values()) == {State.DONE}
    ledger = Ledger(storage_at(str(tmp_path / "results"), None).tracking_uri)
    found = analyze(ledger, "tiny", load_report(ROOT / "analysis" / "paper.yaml"), tmp_path / "out")
    assert found.gaps == ()
    assert not found.left_out
    table = (tmp_path / "out" / "tables" / "search.md").read_text()
    for size in (2, 5):
        chosen = json.loads(runs[f"vgg19_rf-digits-k{size}/search"].params["train.learning_rate"])
        assert f"k={size}" in table
        assert f"{chosen:.3g}" in table
    assert [p.name for p in (tmp_path / "out" / "figures").glob("search*.png")]
    assert "Searches" in (tmp_path / "out" / "report.html").read_text()
