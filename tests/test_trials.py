"""What becomes of a trial that Tune says has ended, or has lost its process."""

from __future__ import annotations

from queue import SimpleQueue
from types import SimpleNamespace

import pytest
from ray.tune.experiment.trial import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.utils.log import Verbosity, set_verbosity

from rfray.engine import trials
from rfray.engine.executor import Ended
from rfray.engine.job import Outcome
from rfray.study import Request

_TUNES_SETTINGS = (
    "RAY_AIR_NEW_OUTPUT",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS",
    "TUNE_DISABLE_SIGINT_HANDLER",
    "TUNE_GLOBAL_CHECKPOINT_S",
    "TUNE_MAX_PENDING_TRIALS_PG",
)
"""What a lane sets in the environment, put back after the test."""


@pytest.fixture
def events(monkeypatch):
    told = SimpleQueue()
    monkeypatch.setitem(trials._EXCHANGES, "study", trials._Exchange(told, retries=1))
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


@pytest.fixture
def lane(events, tmp_path, monkeypatch):
    """A lane whose Tune has not begun."""
    for name in _TUNES_SETTINGS:
        monkeypatch.setenv(name, "0")
    return trials.TrialLane("study", tmp_path, Request(cpus=1), events)


def search():
    return trials._Search(trials._Releases("study"))


def test_a_stage_that_needs_a_slot_ends_no_search_while_every_process_has_a_trial(lane):
    lane.give_up_idle_slot()
    assert not search().is_finished()


def test_an_idle_process_is_dropped_and_the_next_trial_to_end_keeps_its_own(lane, trial):
    reports = trials._Reports("study")
    reports.on_step_begin(1, [trial])
    reports.on_trial_complete(1, [trial], trial)
    reports.on_step_end(1, [trial])
    lane.give_up_idle_slot()
    assert search().is_finished()

    reports.on_step_begin(2, [trial])
    assert search().is_finished()
    reports.on_step_end(2, [trial])
    assert not search().is_finished()
    lane.give_up_idle_slot()
    assert not search().is_finished(), "nothing is idle any more"


def test_a_slot_that_is_wanted_in_the_middle_of_a_step_is_given_up_in_the_next_one(lane, trial):
    reports = trials._Reports("study")
    reports.on_step_begin(1, [trial])
    reports.on_trial_complete(1, [trial], trial)
    lane.give_up_idle_slot()
    reports.on_step_end(1, [trial])
    assert search().is_finished()


def test_tune_goes_on_once_the_driver_has_acted_on_the_end_that_it_waits_for(lane, trial):
    trials._Reports("study").on_trial_complete(1, [trial], trial)
    decided = trials._EXCHANGES["study"].decided
    lane.acted_on({"another"})
    assert not decided.is_set()
    lane.acted_on({"another", "abc"})
    assert decided.is_set()


def test_nothing_of_its_job_is_kept(trial, events):
    trial.config["job"] = trial.evaluated_params["job"] = "all that it was told"
    trial.set_experiment_tag("1_job=all that it was told")
    trials._Reports("study").on_trial_complete(1, [trial], trial)
    assert not trial.config
    assert not trial.evaluated_params
    assert "config" not in trial.last_result
    assert "all that it was told" not in str(vars(trial))


def test_trials_that_take_the_same_share_one_request():
    assert trials._bundle(CPU=1, GPU=0, memory=0) is trials._bundle(CPU=1, GPU=0, memory=0)
    assert trials._bundle(CPU=1, GPU=0, memory=0).required_resources == {"CPU": 1.0}
    needs = {"CPU": 1.0, "GPU": 0.5, "memory": 2.0}
    assert trials._bundle(**needs).required_resources == needs


DIED = """\
The actor died unexpectedly before finishing this task.
\tclass_name: ImplicitFunc
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR
"""
LEFT = """\
The actor died unexpectedly before finishing this task.
The actor died because its node has died. Node Id: b551e8fb
\tthe actor's node was terminated expectedly: received SIGTERM
The actor never ran - it was cancelled before it started running.
"""
"""Ray's own words."""


@pytest.fixture
def loses(monkeypatch, tmp_path, events):
    """Have a trial lose its process, by each of some errors; how often it was started anew."""
    monkeypatch.setattr(trials, "_job", lambda trial: SimpleNamespace(key="abc", time_limit=None))
    monkeypatch.setattr(trials, "lost", lambda job, reason: (job.key, reason))

    def lose(*errors, last_result=None):
        trial = SimpleNamespace(
            config={"key": "abc", "takes": {"CPU": 1.0, "GPU": 0.0}},
            last_result=last_result,
            error_file=str(tmp_path / "error.txt"),
        )
        for number, error in enumerate(errors):
            with (tmp_path / "error.txt").open("a") as file:
                file.write(f"Failure # {number} (occurred at 2026-11-27_16-43-46)\n{error}\n")
            trials._Reports("study").on_trial_error(1, [trial], trial)
        return len(trials._EXCHANGES["study"].released)

    return lose


def test_it_is_started_anew_as_often_as_its_retries_allow(loses, events):
    assert loses(DIED) == 1
    assert events.empty()
    assert loses(DIED) == 1
    reason = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
    assert events.get_nowait().outcome == ("abc", f"the trial's process was lost: {reason}")


def test_no_retry_is_counted_where_a_machine_left_in_order(loses, events):
    assert loses(LEFT, DIED, LEFT, LEFT) == 4
    assert events.empty()
    assert loses(LEFT, DIED) == 5
    assert "worker process has died" in events.get_nowait().outcome[1]


def test_a_training_of_several_processes_fails_with_what_was_lost(loses, events):
    words = "one of the 2 processes that trained together was lost: SIGKILL"
    assert loses(DIED, DIED, last_result={"lost": words}) == 1
    assert events.get_nowait().outcome == ("abc", words)
