"""What a driver remembers of finished nodes."""

from __future__ import annotations

import pytest

from rfray.engine.assemble import Inputs
from rfray.engine.job import Outcome
from rfray.plan import make_plan
from rfray.study.sweep_file import load_study
from rfray.tracking import RunRecord

RUN = RunRecord("run", "n", "FINISHED", 0, None, "file:///there", {}, {"accuracy": 50.0}, {})
OUTCOME = Outcome(key="", status="finished")


@pytest.fixture
def plan(tiny_sweep):
    return make_plan(load_study(str(tiny_sweep)))


def in_order(plan, inputs):
    """Finish the nodes one after the other; what is known before each."""
    for node in plan.nodes.values():
        yield node, dict(inputs.known)
        inputs.finished(node, RUN, OUTCOME)
        inputs.ended(node)


def test_a_node_finds_all_that_it_reads(plan):
    inputs = Inputs(plan, {})
    assert all(set(node.inputs) <= known.keys() for node, known in in_order(plan, inputs))


def test_in_the_end_nothing_is_kept(plan):
    inputs = Inputs(plan, {})
    most = max(len(known) for _, known in in_order(plan, inputs))
    assert 0 < most < len(plan.nodes)
    assert inputs.known == {}


def test_of_what_was_finished_before_only_what_is_still_read_is_kept(plan):
    waits = next(node for node in plan.nodes.values() if node.stage == "cka")
    inputs = Inputs(plan, {key: RUN for key in plan.nodes if key != waits.key})
    assert inputs.known.keys() == set(waits.inputs)


def test_what_only_nodes_that_were_skipped_would_have_read_is_forgotten(plan):
    train, *_ = plan.nodes.values()
    inputs = Inputs(plan, {})
    inputs.finished(train, RUN, OUTCOME)
    inputs.ended(train)
    for node in plan.nodes.values():
        if node is not train:
            inputs.ended(node)
    assert inputs.known == {}
