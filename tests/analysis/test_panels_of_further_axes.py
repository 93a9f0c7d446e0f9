"""A further axis becomes panels of one figure; a kernel size keeps its colour and marker in all."""

import numpy as np
import pytest
from written_study import cell, study_document

from rfray.analysis import expected_slots, read_frame
from rfray.analysis.figures import draw_figures
from rfray.analysis.figures.panels import StudyFiles
from rfray.analysis.figures.sheets import MOST_PANELS
from rfray.analysis.figures.style import colour, marker
from rfray.analysis.report_file import FigureSpec


@pytest.fixture
def figures(ledger):
    """The figures of a kind by their ids."""

    def draw(writer, kind, **where):
        frame = read_frame(ledger, writer.study)
        files = StudyFiles(ledger, frame, expected_slots(frame))
        spec = FigureSpec(id=kind, kind=kind, title="T", where=where)
        return {drawn.id: drawn for drawn in draw_figures(spec, files)}

    return draw


def plan(rates=(0.5, 0.9), **axes):
    document = study_document(hessian=None, cka=None, importance=None, seed=[0, 1])
    document["prune"] = {"rates": list(rates)}
    document["axes"].update(axes)
    return document


def train(writer, accuracy, k=2, **settings):
    """Both seeds of a network; returns their params."""
    found = [{**cell(k=k, seed=seed), **settings} for seed in (0, 1)]
    for params in found:
        curve = {"test_accuracy": [50.0, accuracy], "train_loss": [2.0, 1.0]}
        writer.run("train", params, curve)
    return found


def later(writer, stage, accuracy, networks, rate, **settings):
    for params in networks:
        writer.run(stage, {**params, **settings, "rate": rate}, {"test_accuracy": accuracy})


def titles(drawn):
    return [axes.get_title().replace("\n", " ") for axes in shown(drawn)]


def shown(drawn):
    return [axes for axes in drawn.figure.axes if axes.axison]


def marks(axes):
    """Points of each line that belongs to a kernel size, by its colour and marker."""
    return {
        (line.get_color(), line.get_marker()): list(line.get_ydata())
        for line in axes.lines
        if line.get_marker() in ("o", "s")  # an error bar's caps are lines too
    }


@pytest.fixture
def among(write):
    """Two kernel sizes pruned in two ways, the second of which has not run without repair."""
    axes = {"prune.among": ["live", "all"], "prune.repair": ["none", "batch_norm"]}
    writer = write(plan(**axes))
    for k in (2, 3):
        networks = train(writer, 90.0 - k, k=k)
        for rate in (0.5, 0.9):
            for one in ("none", "batch_norm"):
                settings = {"prune.among": "live", "prune.repair": one}
                later(writer, "prune", 80.0 - k, networks, rate, **settings)
            settings = {"prune.among": "all", "prune.repair": "batch_norm"}
            later(writer, "prune", 60.0 - k, networks, rate, **settings)
    return writer


def test_each_combination_has_a_panel_in_the_order_of_the_study(among, figures):
    (drawn,) = figures(among, "pruning").values()

    assert drawn.id == "pruning-vgg19_rf-digits"
    assert drawn.title == "T: vgg19_rf digits"
    assert titles(drawn) == [
        "prune.among live, prune.repair none",
        "prune.among live, prune.repair batch_norm",
        "prune.among all, prune.repair none",
        "prune.among all, prune.repair batch_norm",
    ]
    assert len({axes.get_ylim() for axes in shown(drawn)}) == 1
    assert len({axes.get_xlim() for axes in shown(drawn)}) == 1


def test_the_dense_network_stands_in_each_panel_and_sizes_keep_colour_and_marker(among, figures):
    (drawn,) = figures(among, "pruning").values()

    live, _, absent, repaired = shown(drawn)
    two, three = (colour(2), marker(2)), (colour(3), marker(3))
    assert marks(live) == {two: [88.0, 78.0, 78.0], three: [87.0, 77.0, 77.0]}
    assert marks(repaired) == {two: [88.0, 58.0, 58.0], three: [87.0, 57.0, 57.0]}
    assert marks(absent) == {two: [88.0], three: [87.0]}
    assert [text.get_text() for text in absent.texts] == ["not run yet"]
    labels = [text.get_text() for text in drawn.figure.legends[0].texts]
    assert labels == ["RF 181 (k = 2)", "RF 359 (k = 3)"]


def test_a_dense_network_that_is_missing_is_one_gap(write, figures):
    writer = write(plan([0.9], kernel_size=[2], **{"prune.among": ["all", "live"]}))
    (params, _) = train(writer, 90.0)[:2]
    later(writer, "prune", 80.0, [params], 0.9, **{"prune.among": "all"})
    (drawn,) = figures(writer, "pruning").values()

    whats = [gap.what for gap in drawn.gaps]
    assert len(whats) == len(set(whats)) == 3


def test_what_a_figure_is_limited_to_stands_in_its_title_alone(among, figures):
    (drawn,) = figures(among, "pruning", **{"prune.among": "live", "prune.repair": "none"}).values()

    assert drawn.title == "T: vgg19_rf digits prune.among live prune.repair none"
    (axes,) = shown(drawn)
    assert axes.get_title() == ""
    assert marks(axes)[colour(2), marker(2)] == [88.0, 78.0, 78.0]


def test_an_axis_that_a_stage_does_not_have_makes_no_panels_of_it(among, figures):
    (drawn,) = figures(among, "training").values()

    assert drawn.id == "training-vgg19_rf-digits"
    assert len(shown(drawn)) == 2


def test_two_values_that_print_alike_have_a_panel_each(write, figures):
    rates = [0.1, 0.10000001]
    writer = write(plan([0.9], kernel_size=[2], **{"train.learning_rate": rates}))
    for accuracy, rate in zip((90.0, 70.0), rates, strict=True):
        networks = train(writer, accuracy, **{"train.learning_rate": rate})
        later(writer, "prune", accuracy - 5, networks, 0.9)
    (curves,) = figures(writer, "training").values()
    (pruned,) = figures(writer, "pruning").values()

    assert titles(pruned) == ["train.learning_rate 0.1", "train.learning_rate 0.10000001"]
    found = [marks(axes)[colour(2), marker(2)] for axes in shown(pruned)]
    assert found == [[90.0, 85.0], [70.0, 65.0]]
    loss, accuracy, _, other = shown(curves)
    assert (loss.get_title(), other.get_title()) == tuple(titles(pruned))
    assert [line.get_ydata()[-1] for line in accuracy.lines if len(line.get_ydata()) > 1] == [
        90,
        90,
    ]
    assert accuracy.get_ylim() == other.get_ylim()


def test_training_that_has_not_run_says_so_on_the_common_axes(write, figures):
    writer = write(plan(kernel_size=[2], **{"train.learning_rate": [0.1, 0.01]}))
    train(writer, 90.0, **{"train.learning_rate": 0.1})
    (drawn,) = figures(writer, "training").values()

    loss, _, absent, _ = shown(drawn)
    assert [text.get_text() for text in absent.texts] == ["not run yet"]
    assert absent.get_ylim() == loss.get_ylim()
    assert absent.get_xlabel() == "epoch"


@pytest.fixture
def tuned(write):
    """A writer of fine-tuned networks at so many learning rates and pruning rates."""

    def make(count, rates):
        values = [round(0.01 * number, 2) for number in range(count, 0, -1)]
        writer = write(plan(rates, kernel_size=[2], **{"finetune.learning_rate": values}))
        networks = train(writer, 90.0)
        for rate in rates:
            for value in values:
                settings = {"finetune.learning_rate": value}
                later(writer, "finetune", 80 + 100 * value - rate, networks, rate, **settings)
        return writer

    return make


def test_values_stand_side_by_side_at_each_rate_of_fine_tuning(tuned, figures):
    (drawn,) = figures(tuned(3, [0.5, 0.9]), "finetuning").values()

    assert titles(drawn) == [
        f"finetune.learning_rate {value}, pruned at {rate}"
        for rate in (0.5, 0.9)
        for value in (0.03, 0.02, 0.01)
    ]
    dense, last = (
        line.get_ydata()[0] for line in shown(drawn)[-1].lines if line.get_marker() == "o"
    )
    assert (dense, last) == (90.0, pytest.approx(80.1))
    assert all(axes.get_position().x0 < 0.5 for axes in (shown(drawn)[0], shown(drawn)[3]))


def test_each_rate_has_a_figure_where_one_would_hold_too_many_panels(tuned, figures):
    drawn = figures(tuned(7, [0.5, 0.9]), "finetuning")

    assert list(drawn) == [f"finetuning-vgg19_rf-digits-rate-{rate}" for rate in (0.5, 0.9)]
    assert all(len(shown(one)) == 7 for one in drawn.values())
    assert drawn["finetuning-vgg19_rf-digits-rate-0.5"].title == "T: vgg19_rf digits rate 0.5"


def test_more_values_than_a_figure_holds_have_a_figure_each(tuned, figures):
    count = MOST_PANELS + 1
    drawn = figures(tuned(count, [0.9]), "finetuning")

    assert len(drawn) == count
    first = "finetuning-vgg19_rf-digits-finetune.learning_rate-0.13"
    assert next(iter(drawn)) == first
    assert titles(drawn[first]) == ["pruned at 0.9"]


def test_without_a_further_axis_a_figure_is_as_it_was(write, figures):
    writer = write(plan([0.5, 0.9], kernel_size=[2]))
    networks = train(writer, 90.0)
    for rate in (0.5, 0.9):
        later(writer, "prune", 80.0, networks, rate)
    (drawn,) = figures(writer, "pruning").values()

    (axes,) = shown(drawn)
    assert axes.get_title() == ""
    assert axes.get_xlabel() == "pruning rate, 0 for the dense network"
    np.testing.assert_allclose(drawn.figure.get_size_inches(), (5.6, 4.6))
