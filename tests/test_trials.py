"""What becomes of a trial that Tune says has ended."""

from __future__ import annotations

from queue import SimpleQueue

import pytest
from ray.tune.experiment.trial import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.utils.log import Verbosity, set_verbosity

from rfray.engine import trials
from rfray.engine.executor import Ended
from rfray.engine.job import Outcome


@pytest.fixture
def events(monkeypatch):
    told = SimpleQueue()
    monkeypatch.setitem(trials._EXCHANGES, "study", trials._Exchange(told))
    return told


@pytest.fixture
def trial(monkeypatch):
    """A trial that has reported its outcome."""
    monkeypatch.setattr(trials, "_job", lambda trial: trial.config["key"])
    ended = Trial("stage", config={"key": "abc"}, stub=True)
    outcome = Outcome(key="abc", status="finished").model_dump_json()
    ended.update_last_result({"training_iteration": 1, "outcome": outcome, "config": ended.config})
    return ended


def test_its_outcome_is_told_and_no_longer_kept(trial, events):
    assert trial.metric_analysis
    trials._Reports("study").on_trial_complete(1, [trial], trial)
    assert events.get_nowait() == Ended(Outcome(key="abc", status="finished"))
    assert trial.last_result["outcome"] == "told"
    assert not trial.metric_analysis
    assert not trial.run_metadata.metric_n_steps


def test_tune_says_nothing_of_it(trial, events, capsys):
    """Its own callback comes behind ours, and asks the result what there is to say."""
    set_verbosity(Verbosity.V0_MINIMAL)
    trials._Reports("study").on_trial_complete(1, [trial], trial)
    TrialProgressCallback().on_trial_complete(1, [trial], trial)
    assert capsys.readouterr().out == ""
