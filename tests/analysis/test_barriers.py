"""What barrier.csv must hold, and the figure that is drawn of it."""

from __future__ import annotations

import numpy as np
import pytest

from rfray.analysis.artifacts import ArtifactError, Paths, read_paths
from rfray.analysis.expected import Gap
from rfray.analysis.figures.curves import draw_barriers
from rfray.analysis.figures.panels import Drawing, Panel

HEAD = "first,second,point,alpha,train_loss,train_accuracy,test_loss,test_accuracy\n"
TWO_LINES = (
    HEAD
    + "0,1,0,0.0,1,90,0.5,80\n0,1,1,0.5,2,50,1.5,40\n0,1,2,1.0,1,90,0.7,82\n"
    + "0,2,0,0.0,1,90,0.5,80\n0,2,1,0.5,2,50,,10\n0,2,2,1.0,1,90,inf,82\n"
)


def written(tmp_path, text):
    path = tmp_path / "barrier.csv"
    path.write_text(text)
    return path


def test_lines_are_read_pair_by_pair_and_what_is_not_finite_is_nan(tmp_path):
    paths = read_paths(written(tmp_path, TWO_LINES))
    assert paths.alphas.tolist() == [0, 0.5, 1]
    np.testing.assert_array_equal(paths.loss, [[0.5, 1.5, 0.7], [0.5, np.nan, np.nan]])
    assert paths.accuracy.tolist() == [[80, 40, 82], [80, 10, 82]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD, "no values"),
        (TWO_LINES.rpartition("0,2,2")[0], "whole lines"),
        (TWO_LINES.replace("80\n", "much\n"), "much"),
        ("first,second\n0,1\n", "lacks values in the column point"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, text, words):
    with pytest.raises(ArtifactError, match=words):
        read_paths(written(tmp_path, text))


def panel(size, *contents, gaps=()):
    return Panel(size, 90 * size, None, contents, gaps)


def test_each_pair_is_a_line_beside_the_mean_of_its_receptive_field():
    paths = Paths(np.array([0, 0.5, 1]), np.array([[1.0, 3, 1], [1, 5, 1]]), np.full((2, 3), 50.0))
    gap = Gap("vgg19_rf digits k=3: barrier", "not run yet")
    full = Drawing((), (panel(2, paths), panel(3, gaps=(gap,))), chance=10.0, heading="align none")
    none = Drawing((), (panel(2, gaps=(gap,)),), heading="align weights")
    figure = draw_barriers("Barriers", full, none)
    above, beside, below, _ = figure.axes
    assert [line.get_ydata().tolist() for line in above.lines] == [[1, 3, 1], [1, 5, 1], [1, 4, 1]]
    assert [text.get_text() for text in beside.texts] == ["chance"]
    assert "not run yet" in below.texts[0].get_text()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["RF 180 (k = 2)"]
