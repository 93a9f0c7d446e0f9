"""A grid is every combination of its axes, less what it excludes, with what some points get."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfray.grid import Grid, When, independent, place, point_at, points, problems, varying

AXES = {"arch": ["vgg19_rf", "resnet50"], "kernel_size": [2, 3]}


def test_the_last_axis_is_the_fastest():
    assert [tuple(point.values()) for point in points(Grid(AXES))] == [
        ("vgg19_rf", 2), ("vgg19_rf", 3), ("resnet50", 2), ("resnet50", 3),
    ]  # fmt: skip


def test_zipped_settings_vary_together():
    zipped = [{"arch": "vgg19_rf", "width": 0.5}, {"arch": "resnet50", "width": 1.0}]
    grid = Grid({"kernel_size": [2, 3]}, zipped)
    assert [(p["arch"], p["width"], p["kernel_size"]) for p in points(grid)] == [
        ("vgg19_rf", 0.5, 2), ("vgg19_rf", 0.5, 3), ("resnet50", 1.0, 2), ("resnet50", 1.0, 3),
    ]  # fmt: skip


def test_what_is_excluded_has_one_of_the_values_on_every_setting():
    grid = Grid(AXES, excluded=[{"arch": ["resnet50"], "kernel_size": [3, 4]}])
    assert {(p["arch"], p["kernel_size"]) for p in points(grid)} == {
        ("vgg19_rf", 2), ("vgg19_rf", 3), ("resnet50", 2),
    }  # fmt: skip


def test_some_points_get_what_the_others_do_not():
    rule = When({"kernel_size": [3]}, {"train.epochs": 100})
    grid = Grid(AXES, when=[rule], usual={"train.epochs": 200})
    assert [point["train.epochs"] for point in points(grid)] == [200, 100, 200, 100]


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("abcd"), st.lists(st.integers(), unique=True, min_size=1, max_size=4)
    )
)
def test_without_more_ado_a_grid_is_the_product(axes):
    expected = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    assert points(Grid(axes)) == expected


def test_settings_that_are_everywhere_the_same_do_not_vary():
    grid = Grid({"dataset": ["digits"], "train.learning_rate": [0.1, 0.10000001]})
    assert varying(points(grid)) == ("train.learning_rate",)


def test_a_list_is_a_value_like_any_other():
    there = points(Grid({"train.milestones": [[10], [10, 20]]}))
    places = [place(point, ["train.milestones"]) for point in there]
    assert len(set(places)) == 2
    assert [point_at(one) for one in places] == there


def test_a_setting_that_follows_from_others_tells_nothing_apart():
    zipped = [{"arch": "vgg19_rf", "width": 0.5}, {"arch": "resnet50", "width": 1.0}]
    there = points(Grid({"kernel_size": [2, 3]}, zipped))
    assert independent(("arch", "width", "kernel_size"), there) == ("arch", "kernel_size")
    assert independent(("width", "arch", "kernel_size"), there) == ("width", "kernel_size")


@pytest.mark.parametrize(
    ("grid", "entry", "what"),
    [
        (Grid(AXES, [{"arch": "resnet50"}]), "zip.0", "is in axes as well"),
        (Grid(AXES, [{"a": 1}, {"b": 1}]), "zip.1", "names other settings"),
        (Grid(AXES, [{"a": 1}, {"a": 1}]), "zip.1", "listed twice"),
        (Grid(AXES, excluded=[{"width": [1]}]), "exclude.0", "not an axis"),
        (Grid(AXES, excluded=[{}]), "exclude.0", "names no setting"),
        (Grid(AXES, excluded=[{"kernel_size": [4]}]), "exclude.0", "excludes nothing"),
        (Grid(AXES, excluded=[{"kernel_size": [2, 3]}]), "exclude", "excludes every combination"),
        (Grid(AXES, when=[When({"arch": ["resnet50"]}, {})]), "when.0.set", "sets nothing"),
        (Grid(AXES, when=[When({"width": [1]}, {"a": 1})]), "when.0.if", "not an axis"),
        (Grid(AXES, when=[When({"kernel_size": [9]}, {"a": 1})]), "when.0.if", "holds for no"),
        (Grid(AXES, when=[When({"kernel_size": [2]}, {"arch": 1})]), "when.0.set", "is an axis"),
        (
            Grid(AXES, when=[When({"kernel_size": [2]}, {"a": 1}), When({"arch": ["resnet50"]},
                                                                        {"a": 2})]),
            "when.1.set",
            "set twice",
        ),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_named(grid, entry, what):
    found = list(problems(grid))
    assert any(problem.entry == entry and what in problem.what for problem in found), found


def test_a_sound_grid_has_no_problem():
    grid = Grid(
        AXES,
        excluded=[{"arch": ["resnet50"], "kernel_size": [2]}],
        when=[When({"arch": ["resnet50"]}, {"a": 1}), When({"arch": ["vgg19_rf"]}, {"a": 2})],
    )
    assert list(problems(grid)) == []
