from __future__ import annotations

import math

import pytest

from rfray.engine.answer import answered
from rfray.engine.job import Job, Measurement, Outcome


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.1])
def test_what_is_measured_comes_back_as_it_is(value):
    measured = Measurement(metric="train_loss", step=3, value=value, timestamp=1)
    sent = Outcome(key="k", status="finished", measurements=[measured]).model_dump_json()
    (received,) = Outcome.model_validate_json(sent).measurements
    assert received.value == value or (math.isnan(value) and math.isnan(received.value))


@pytest.fixture
def job(tmp_path):
    return Job(
        key="k", name="a/prune-0.5", stage="prune", variant={}, parameters={}, cells=[], inputs=[],
        run_id="", artifact_uri="", attempt=1, time_limit=None, checkpoint_every=1,
        checkpoint=str(tmp_path), data_root=None, fingerprint="", tracking_uri="", threads=1,
        device="cpu",
    )  # fmt: skip


def test_an_answer_is_the_outcome(job):
    outcome = Outcome(key="k", status="finished", seconds=2.0)
    assert answered(job, outcome.model_dump_json()) == outcome


@pytest.mark.parametrize("text", ["", "{", '{"key": "k", "status": "finished", "colour": "red"}'])
def test_an_answer_that_cannot_be_read_is_a_failure_with_its_reason(job, text):
    outcome = answered(job, text)
    assert (outcome.key, outcome.status) == ("k", "failed")
    assert outcome.reason.startswith("its answer cannot be read")
