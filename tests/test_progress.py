from __future__ import annotations

import itertools

import pytest

from rfray.engine.job import Measurement, Progress
from rfray.engine.progress import SECONDS_BETWEEN, ProgressNote, noted_progress, read_progress


def measured(step):
    entry = Measurement(metric="converged_eigenvalues", step=step, value=step / 10, timestamp=1)
    return Progress(measurements=[entry])


def steps(folder):
    return [entry.step for entry in noted_progress(folder).measurements]


def test_what_a_task_measures_is_found_beside_its_checkpoint_every_few_seconds(tmp_path):
    clock = itertools.count(step=SECONDS_BETWEEN / 2)
    note = ProgressNote(tmp_path / "key", clock=lambda: float(next(clock)))
    note(measured(10))
    assert steps(tmp_path / "key") == []
    note(measured(20))
    assert steps(tmp_path / "key") == [10, 20]


def test_values_that_are_not_finite_come_through(tmp_path):
    clock = itertools.count(step=SECONDS_BETWEEN)
    note = ProgressNote(tmp_path, clock=lambda: float(next(clock)))
    nan = Measurement(metric="loss", step=1, value=float("nan"), timestamp=1)
    note(Progress(measurements=[nan]))
    (entry,) = noted_progress(tmp_path).measurements
    assert entry.value != entry.value


def test_an_attempt_forgets_what_the_one_before_it_left(tmp_path):
    clock = itertools.count(step=SECONDS_BETWEEN)
    ProgressNote(tmp_path, clock=lambda: float(next(clock)))(measured(10))
    assert steps(tmp_path) == [10]
    ProgressNote(tmp_path)
    assert steps(tmp_path) == []


def test_what_cannot_be_read_is_no_progress(tmp_path):
    assert noted_progress(tmp_path / "nowhere") == Progress()
    (tmp_path / "progress.json").write_text("[{")
    assert noted_progress(tmp_path) == Progress()


@pytest.mark.parametrize("text", ["", "{", '{"measurements": 3}', b"\xff"])
def test_progress_that_cannot_be_read_disturbs_nothing(text):
    assert read_progress(text) == Progress()


def test_a_task_goes_on_where_no_note_can_be_left(tmp_path):
    clock = itertools.count(step=SECONDS_BETWEEN)
    note = ProgressNote(tmp_path / "key", clock=lambda: float(next(clock)))
    (tmp_path / "key").write_text("a file where the folder should be")
    note(measured(10))


def test_what_a_task_is_doing_is_told_until_it_measures_something(tmp_path):
    clock = itertools.count(step=SECONDS_BETWEEN)
    note = ProgressNote(tmp_path, clock=lambda: float(next(clock)))
    note(measured(10))
    note(Progress(doing="reading digits"))
    assert noted_progress(tmp_path).doing == "reading digits"
    assert steps(tmp_path) == [10]
    note(measured(20))
    assert noted_progress(tmp_path).doing == ""
    assert steps(tmp_path) == [10, 20]
