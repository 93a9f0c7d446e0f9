"""What of a study's files may go: decided on plain data."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_study import TINY_SWEEP

from rfray.commands.cleaning import droppable_checkpoints, droppable_weights
from rfray.engine.standing import needed_again
from rfray.errors import UserError
from rfray.plan import make_plan
from rfray.study.sweep_file import load_study

WITH_WEIGHTS = ("train", "prune", "finetune")


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "tiny.yaml"
    path.write_text(TINY_SWEEP)
    return make_plan(load_study(str(path), []))


def named(plan, keys):
    return {plan.nodes[key].name.partition("-seed")[2] for key in keys}


def holding(plan):
    return {key for key, node in plan.nodes.items() if node.stage in WITH_WEIGHTS}


def test_a_finished_study_keeps_the_trained_networks_and_drops_what_followed(plan):
    found = droppable_weights(plan, set(plan.nodes), holding(plan), keep=["train"])
    assert named(plan, found) == {
        f"{seed}/{stage}-{rate}"
        for seed in (0, 1)
        for stage in WITH_WEIGHTS[1:]
        for rate in (0.5, 0.9)
    }


def test_a_kept_fine_tuned_network_keeps_the_training_run_that_it_refers_to(plan):
    found = droppable_weights(plan, set(plan.nodes), holding(plan), keep=["finetune"])
    assert {plan.nodes[key].stage for key in found} == {"prune"}


def test_what_other_weights_refer_to_stays(plan):
    train = next(key for key in plan.nodes if plan.nodes[key].stage == "train")
    found = droppable_weights(plan, set(plan.nodes), holding(plan), [], bases={train})
    assert set(found) == holding(plan) - {train}


def test_what_a_missing_run_reads_stays(plan):
    (missing,) = (key for key, node in plan.nodes.items() if node.name.endswith("0/finetune-0.9"))
    finished = set(plan.nodes) - {missing}
    found = droppable_weights(plan, finished, holding(plan), keep=[])
    stays = named(plan, holding(plan) & finished - set(found))
    assert stays == {"0/train", "0/prune-0.9"}


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_goes_is_all_that_can_go_with_nothing_to_compute_again(data, plan):
    order = list(plan.nodes)
    finished = set()  # a sweep finishes inputs first
    for key in order:
        if set(plan.nodes[key].inputs) <= finished and data.draw(st.booleans()):
            finished.add(key)
    held = {key for key in holding(plan) & finished if data.draw(st.booleans())}
    keep = data.draw(st.sets(st.sampled_from(WITH_WEIGHTS)))
    found = set(droppable_weights(plan, finished, held, keep))

    def sound(dropped):
        remaining = held - dropped
        bases = {read for key in remaining for read in plan.nodes[key].inputs if read in dropped}
        return not needed_again(plan, finished, dropped) and not any(
            plan.nodes[key].stage == "train" for key in bases
        )

    assert sound(found)
    assert all(plan.nodes[key].stage not in keep for key in found)
    more = [key for key in held - found if plan.nodes[key].stage not in keep]
    for count in range(1, min(len(more), 3) + 1):
        assert not any(sound(found | set(extra)) for extra in combinations(more, count))


def test_what_is_needed_again_is_what_was_dropped_behind_a_missing_run(plan):
    (missing,) = (key for key, node in plan.nodes.items() if node.name.endswith("1/finetune-0.5"))
    again = needed_again(plan, set(plan.nodes) - {missing}, holding(plan))
    assert named(plan, again) == {"1/train", "1/prune-0.5"}
    assert again == [key for key in plan.nodes if key in again]


def test_checkpoints_go_once_their_training_has_ended_for_every_study():
    assert droppable_checkpoints(["a", "b", "c"], ended={"a", "b"}, needed={"b"}) == ["a"]


def test_a_stage_that_is_kept_must_be_one(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SWEEP + "keep: [trian]\n")
    with pytest.raises(UserError, match="no stage is called 'trian'"):
        load_study(str(path), [])
