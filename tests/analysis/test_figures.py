import numpy as np
import pytest
from matplotlib.colors import to_hex

from rfray.analysis.artifacts import Alignment, Density, Spectrum
from rfray.analysis.expected import Gap
from rfray.analysis.figures.cka import draw_cka, mean_over_pairs, middle_layer
from rfray.analysis.figures.importance import draw_importance
from rfray.analysis.figures.panels import Drawing, Panel
from rfray.analysis.figures.spectra import draw_density, draw_eigenvalues
from rfray.analysis.figures.style import colour, rendered

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


def test_density_has_one_row_a_moment_and_one_line_a_seed():
    figure = draw_density(
        "D",
        drawing(
            panel(density(), density(), parameter="init"),
            panel(density(), parameter="trained", gaps=(GAP,)),
            panel(density(), k=3, parameter="init"),
            panel(k=3, parameter="trained", gaps=(GAP,)),
        ),
    )

    init, init_3, trained, trained_3 = figure.axes
    assert [len(axes.lines) - 1 for axes in (init, init_3, trained)] == [2, 1, 1]
    assert init.get_yscale() == "log"
    assert init.get_ylabel() == "at initialisation\ndensity P(λ)"
    assert trained.get_title() == "RF 181 (k = 2), 1 of 2"
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


@pytest.mark.parametrize("draw", [draw_cka, draw_importance, draw_density, draw_eigenvalues])
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
