import numpy as np
import pytest
from matplotlib.colors import to_hex
from written_study import cell

from rfray.analysis.artifacts import Alignment, Density, EffectiveFields, Spectrum
from rfray.analysis.expected import Gap
from rfray.analysis.figures.accuracy import draw_finetuning, draw_pruning
from rfray.analysis.figures.cka import draw_cka, draw_cka_layers, mean_over_pairs, middle_layer
from rfray.analysis.figures.curves import Curve, curves_reader, draw_training
from rfray.analysis.figures.maps import draw_erf, draw_importance, relative_gradient
from rfray.analysis.figures.panels import Drawing, Panel
from rfray.analysis.figures.spectra import draw_density, draw_eigenvalues
from rfray.analysis.figures.style import colour, marker, rendered

GAP = Gap("vgg19_rf digits k=3", "not run yet")


def panel(*contents, k=2, parameter=None, gaps=()):
    return Panel(k, {2: 181, 3: 359}[k], parameter, contents, gaps)


def drawing(*panels):
    return Drawing((("dataset", "digits"), ("arch", "vgg19_rf")), panels)


def texts(axes):
    return " ".join(text.get_text() for text in axes.texts).replace("\n", " ")


def alignment(*matrices):
    layers = tuple(f"conv{index}" for index in range(len(matrices[0])))
    pairs = np.array([(0, index + 1) for index in range(len(matrices))])
    return Alignment(layers, pairs, np.array(matrices, dtype=float))


def density():
    grid = np.linspace(-1.0, 10.0, 50)
    return Density(grid, np.exp(-(grid**2)))


def test_cka_is_averaged_over_pairs_and_undefined_where_any_pair_is():
    mean = mean_over_pairs(alignment([[1.0, 0.2], [0.4, 0.8]], [[1.0, 0.4], [np.nan, 0.6]]))

    np.testing.assert_allclose(mean, [[1.0, 0.3], [np.nan, 0.7]])


def test_cka_maps_share_one_scale_and_mark_the_middle_layer_in_red():
    figure = draw_cka(
        "CKA", drawing(panel(alignment(np.eye(5))), panel(alignment(0.5 * np.eye(5)), k=3))
    )

    first, second, bar = figure.axes
    assert [image.get_clim() for axes in (first, second) for image in axes.images] == [(0, 1)] * 2
    assert middle_layer(5) == 2
    red = [label for label in first.get_yticklabels() if to_hex(label.get_color()) == "#d6002a"]
    assert [label.get_text() for label in red] == ["conv2"]
    assert first.lines[0].get_ydata()[0] == 2
    assert "CKA" in bar.get_ylabel()
    assert first.get_title() == "RF 181 (k = 2), 1 pair"


def test_cka_says_how_many_cells_are_undefined_and_draws_them_grey():
    matrix = np.eye(4)
    matrix[3] = np.nan

    (axes, _) = draw_cka("CKA", drawing(panel(alignment(matrix)))).axes

    assert axes.get_title().endswith("grey: 4 undefined")
    assert axes.images[0].get_array().mask.sum() == 4
    assert to_hex(axes.images[0].get_cmap().get_bad()) == "#9a9a9a"


def test_deep_network_has_a_readable_number_of_layers_named():
    (axes, _) = draw_cka("CKA", drawing(panel(alignment(np.eye(53))))).axes

    assert 7 <= len(axes.get_xticks()) <= 11
    assert 26 in axes.get_xticks()


def test_unconverged_eigenvalues_are_hollow():
    spectrum = Spectrum(np.arange(3), np.array([30.0, 2.0, 1.0]), np.array([True, True, False]))

    (axes,) = draw_eigenvalues("E", drawing(panel(spectrum, parameter="init"))).axes

    filled, hollow = axes.collections
    assert to_hex(filled.get_facecolor()[0]) == colour(2).lower()
    assert to_hex(hollow.get_facecolor()[0]) == "#ffffff"
    assert hollow.get_offsets().tolist() == [[2.0, 1.0]]
    assert axes.get_yscale() == "log"


def test_negative_eigenvalues_are_shown():
    spectrum = Spectrum(np.arange(2), np.array([3.0, -2.0]), np.array([True, True]))

    (axes,) = draw_eigenvalues("E", drawing(panel(spectrum, parameter="init"))).axes

    assert axes.get_yscale() == "symlog"
    assert axes.get_ylim()[0] < -2.0


def test_eigenvalues_name_what_an_overlay_cannot_show_to_be_missing():
    spectrum = Spectrum(np.arange(2), np.array([3.0, 2.0]), np.array([True, True]))
    there = panel(spectrum, parameter="init", gaps=(GAP,))
    absent = panel(k=3, parameter="init", gaps=(GAP,))

    (axes,) = draw_eigenvalues("E", drawing(there, absent)).axes

    assert "RF 181 (k = 2), 1 of 2 seeds" in texts(axes)
    assert "RF 359 (k = 3): not run yet" in texts(axes)


def test_density_has_one_column_a_moment_and_one_line_a_seed():
    figure = draw_density(
        "D",
        drawing(
            panel(density(), density(), parameter="init"),
            panel(density(), parameter="trained", gaps=(GAP,)),
            panel(density(), k=3, parameter="init"),
            panel(k=3, parameter="trained", gaps=(GAP,)),
        ),
    )

    init, trained, init_3, trained_3 = figure.axes
    assert [len(axes.lines) - 1 for axes in (init, init_3, trained)] == [2, 1, 1]
    assert init.get_yscale() == "log"
    assert init.get_ylabel() == "density P(λ)"
    assert init.get_title() == "RF 181 (k = 2), at initialisation"
    assert trained.get_title() == "RF 181 (k = 2), 1 of 2, after training"
    assert trained_3.get_xlabel() == ""
    assert init_3.get_xlabel() == "eigenvalue λ"
    assert texts(trained_3) == "not run yet"


def test_importance_maps_share_one_scale_and_show_their_profiles():
    near, far = np.full((8, 8), 1e-7), np.full((8, 8), 1e-9)
    near[4, 4] = 1e-5

    figure = draw_importance("I", drawing(panel(near), panel(far, k=3)))

    first, second, profiles = (axes for axes in figure.axes if axes.get_label() != "<colorbar>")
    assert first.images[0].norm is second.images[0].norm
    assert first.images[0].norm.vmax == 1e-5
    assert [line.get_label() for line in profiles.lines] == ["RF 181 (k = 2)", "RF 359 (k = 3)"]
    assert max(profiles.lines[0].get_ydata()) == 1e-5
    assert profiles.lines[0].get_xdata()[4] == 0


def test_a_kernel_size_has_its_colour_in_every_figure():
    pattern = np.ones((4, 4))
    spectra = draw_density("D", drawing(panel(density(), k=3, parameter="init"))).axes[0]
    profiles = draw_importance("I", drawing(panel(pattern, k=3))).axes[-1]

    assert {axes.lines[0].get_color() for axes in (spectra, profiles)} == {colour(3)}
    assert len({colour(k) for k in range(2, 9)}) == 7


def curves(loss, accuracy):
    epochs = np.arange(len(loss), dtype=float)
    return {"train_loss": Curve(epochs, loss), "test_accuracy": Curve(epochs, accuracy)}


def test_training_has_one_line_a_seed_in_the_colour_of_its_receptive_field():
    first = curves(np.array([2.0, 0.1]), np.array([50.0, 90.0]))
    second = curves(np.array([2.0, np.nan]), np.array([40.0, 80.0]))

    figure = draw_training("T", drawing(panel(first, second), panel(first, k=3, gaps=(GAP,))))
    loss, accuracy = figure.axes

    assert [line.get_color() for line in loss.lines] == [colour(2), colour(2), colour(3)]
    assert loss.get_yscale() == "log"
    said = figure.legends[0].get_title().get_text()
    assert said == "RF 359 (k = 3), 1 of 2 seeds\n1 value is not a number"
    assert (accuracy.get_xlabel(), accuracy.get_ylabel()) == ("epoch", "test accuracy (%)")
    assert list(accuracy.lines[0].get_ydata()) == [50.0, 90.0]


def test_value_of_the_weights_that_were_kept_is_no_epoch_of_training(write, ledger):
    writer = write()
    accuracy = {"test_accuracy": [50.0, 90.0, 80.0, 90.0], "train_loss": [3.0, 2.0, 1.0]}
    run = writer.run("train", cell(), accuracy)
    ledger.client.log_metric(run, "kept_epoch", 1, step=3)
    (record,) = ledger.runs(writer.study)

    found = curves_reader(ledger, [record])(record)

    assert found["test_accuracy"].epochs.tolist() == [0, 1, 2]
    assert found["test_accuracy"].values.tolist() == [50.0, 90.0, 80.0]
    assert found["train_loss"].values.tolist() == [3.0, 2.0, 1.0]


def bars(axes):
    """Height above and below of each error bar, by the x it stands at."""
    segments = [s for c in axes.collections for s in c.get_segments()]
    return {round(float(s[0][0]), 2): float(s[1][1] - s[0][1]) for s in segments}


def test_accuracy_against_rate_starts_dense_and_has_the_deviation_as_error_bar():
    found = drawing(
        panel(90.0, 92.0, 94.0), panel(40.0, parameter=0.9), panel(80.0, 84.0, parameter=0.5)
    )

    (axes,) = draw_pruning("P", found).axes

    line = axes.lines[0]
    assert list(line.get_xdata()) == [0.0, 0.5, 0.9]
    assert list(line.get_ydata()) == [92.0, 82.0, 40.0]
    assert line.get_color() == colour(2)
    found = bars(axes)
    assert found[0.0] == pytest.approx(2 * 2.0)
    assert found[0.5] == pytest.approx(2 * np.sqrt(8.0))
    assert found[0.9] == 0.0


def test_dense_stands_hollow_beside_fine_tuned_in_one_panel_a_rate():
    found = drawing(
        panel(90.0, 92.0),
        panel(80.0, 82.0, k=3),
        panel(88.0, parameter=0.5),
        panel(70.0, parameter=0.9),
        panel(gaps=(GAP,), parameter=0.9, k=3),
    )

    figure = draw_finetuning("F", found)

    half, ninety = figure.axes
    assert [axes.get_title() for axes in (half, ninety)] == ["pruned at 0.5", "pruned at 0.9"]
    assert [label.get_text() for label in half.get_xticklabels()] == ["181", "359"]
    marks = [line for line in half.lines if line.get_marker() == marker(2)]
    assert [(line.get_ydata()[0], line.get_markerfacecolor()) for line in marks] == [
        (91.0, "white"), (88.0, colour(2))
    ]  # fmt: skip
    said = figure.legends[0].get_title().get_text()
    assert said == "Incomplete: 1 of 5 points lack seeds"


@pytest.mark.parametrize("draw", [draw_pruning, draw_finetuning, draw_training])
def test_accuracy_of_which_nothing_is_there_says_why(draw):
    figure = draw("F", drawing(panel(gaps=(GAP,)), panel(parameter=0.9, gaps=(GAP,))))

    figure.draw_without_rendering()
    assert any("not run yet" in texts(axes) for axes in figure.axes)


@pytest.mark.parametrize(
    "draw", [draw_cka, draw_cka_layers, draw_importance, draw_density, draw_eigenvalues]
)
def test_figure_of_which_nothing_is_there_says_why(draw):
    figure = draw("F", drawing(panel(parameter="init", gaps=(GAP,))))

    figure.draw_without_rendering()
    assert any("not run yet" in texts(axes) for axes in figure.axes)


def test_same_figure_gives_the_same_files():
    spectrum = Spectrum(np.arange(2), np.array([3.0, 2.0]), np.array([True, True]))
    figures = [draw_eigenvalues("E", drawing(panel(spectrum, parameter="init"))) for _ in range(2)]

    first, second = (rendered(figure) for figure in figures)

    assert first == second
    assert first["pdf"].startswith(b"%PDF")


def effective_fields(last, radius=1.0):
    first = np.eye(4)
    return EffectiveFields(
        layers=("conv1", "conv2"),
        places=np.array([0, 5]),
        maps=np.stack([first, np.asarray(last, dtype=float)]),
        rows=np.array([[1, 3], [0, 4]]),
        columns=np.array([[1, 3], [0, 3]]),
        radius=np.array([0.5, radius]),
    )


def test_erf_maps_of_seeds_count_alike_whatever_the_size_of_their_gradients():
    weak, strong = np.zeros((4, 4)), np.zeros((4, 4))
    weak[0, 0], strong[1, 1], strong[2, 2] = 1e-9, 50.0, 50.0
    mean = relative_gradient([effective_fields(weak), effective_fields(strong)])
    assert mean[0, 0] == 1
    assert mean[1, 1] == mean[2, 2] == pytest.approx(np.sqrt(0.5))


def test_erf_frames_the_theoretical_field_and_has_a_line_a_seed_and_moment():
    two = [effective_fields(np.eye(4)), effective_fields(np.ones((4, 4)), 2.0)]
    figure = draw_erf(
        "ERF",
        drawing(
            panel(*two, parameter="init"),
            panel(parameter="trained", gaps=(GAP,)),
            panel(two[0], k=3, parameter="init"),
            panel(two[0], k=3, parameter="trained"),
        ),
    )
    rendered(figure)
    maps, (radii,) = figure.axes[:4], [a for a in figure.axes if a.lines]
    assert maps[0].get_title() == "RF 181 (k = 2)\nat initialisation: radius 1.5"
    assert GAP.reason in texts(maps[1])
    (frame,) = maps[0].patches
    assert (frame.get_x(), frame.get_y()) == (-0.5, -0.5)
    assert (frame.get_width(), frame.get_height()) == (3, 4)
    assert len(radii.lines) == 4
    assert {line.get_linestyle() for line in radii.lines} == {"-", "--"}


def test_erf_of_a_layer_without_a_gradient_says_so():
    nothing = effective_fields(np.zeros((4, 4)), radius=np.nan)
    figure = draw_erf("ERF", drawing(panel(nothing, parameter="trained")))
    rendered(figure)
    assert "no gradient" in texts(figure.axes[0])
