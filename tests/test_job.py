from __future__ import annotations

import math

import pytest

from rfray.engine.job import Measurement, Outcome


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.1])
def test_what_is_measured_comes_back_as_it_is(value):
    measured = Measurement(metric="train_loss", step=3, value=value, timestamp=1)
    sent = Outcome(key="k", status="finished", measurements=[measured]).model_dump_json()
    (received,) = Outcome.model_validate_json(sent).measurements
    assert received.value == value or (math.isnan(value) and math.isnan(received.value))
