"""The analysis' own words for the public schema, held against what the stages declare.

The analysis does not import the stages: runs of any program that follows the schema make the same
tables. So the two are said twice, and this is what keeps them from drifting apart.
"""

from __future__ import annotations

from rfray.analysis import schema
from rfray.stages.registry import stages


def own_variant(stage):
    """What tells the nodes of a stage apart: its fan, or that of the stage that it follows."""
    while stage.fan is None and stage.reads:
        stage = stages()[stage.reads[0]]
    return stage.fan.variant if stage.fan else None


def test_the_stages_are_those_that_run():
    assert set(schema.STAGES) == set(stages())


def test_each_stage_has_its_own_parameter():
    declared = {
        name: own_variant(stage)
        for name, stage in stages().items()
        if stage.scope in ("cell", "seeds") and own_variant(stage)
    }
    declared |= {name: name for name, stage in stages().items() if stage.scope == "sample"}
    assert declared == schema.OWN_PARAMETER


def test_the_value_that_names_leave_out_is_the_usual_one_of_the_fan():
    fans = {name: stage.fan for name, stage in stages().items() if stage.fan}
    assert {name: fan.usual for name, fan in fans.items() if fan.usual} == schema.USUAL


def test_axes_that_do_not_apply_follow_from_the_scope():
    without = {"cell": set(), "seeds": {"seed"}, "network": {"dataset", "seed"}}
    without |= {"sample": {"seed"}, "search": {"seed"}}
    declared = {name: without[stage.scope] for name, stage in stages().items()}
    assert {name: axes for name, axes in declared.items() if axes} == schema.AXES_NOT_APPLYING


def test_stages_over_seeds_are_those_of_that_scope():
    assert {name for name, stage in stages().items() if stage.scope == "seeds"} == schema.OVER_SEEDS


def test_a_stage_in_a_cell_needs_the_one_that_it_follows():
    declared = {
        name: stage.reads[0]
        for name, stage in stages().items()
        if stage.scope == "cell" and stage.reads
    }
    assert declared == schema.NEEDS


def test_settings_of_what_a_stage_reads_are_axes_of_its_runs():
    assert {name: set(stage.reads) for name, stage in stages().items()} == schema.READS


def test_the_headline_of_each_stage_is_a_metric_of_the_schema():
    for name, stage in stages().items():
        assert stage.headline in schema.METRICS[name]


def test_the_headline_of_each_stage_is_what_settings_are_compared_by():
    assert {name: stage.headline for name, stage in stages().items()} == schema.HEADLINES
