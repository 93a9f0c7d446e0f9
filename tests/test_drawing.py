"""Pictures that a run leaves."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from rfray.stages.drawing import _figure, _save, save_alignment


@pytest.fixture
def alignment(tmp_path, monkeypatch):
    """A picture with all of a colour scale in it; as matplotlib draws it, and as it is left."""
    drawn, draw = [], Figure.savefig

    def remembered(figure, stream, **how):
        drawn.append(BytesIO())
        draw(figure, drawn[-1], format="png")
        draw(figure, stream, **how)

    monkeypatch.setattr(Figure, "savefig", remembered)
    ramp = np.linspace(0, 1, 54 * 54, dtype=np.float32).reshape(1, 54, 54)
    shuffled = np.zeros((1, 54), np.float32)
    save_alignment(tmp_path / "cka.png", "a title", ramp, shuffled, [f"conv{n}" for n in range(54)])
    return drawn[0], tmp_path / "cka.png"


def test_a_palette_takes_half_the_room_and_its_colours_are_the_same_to_the_eye(alignment):
    drawn, left = alignment
    assert left.stat().st_size < 0.5 * len(drawn.getvalue())
    before, after = (np.asarray(Image.open(one).convert("RGB"), int) for one in (drawn, left))
    assert np.abs(before - after).max() <= 6


def test_a_picture_is_the_same_file_each_time(tmp_path):
    for name in ("a", "b"):
        figure = _figure("a title", 4.0)
        figure.subplots().plot([1, 2, 3])
        _save(figure, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
