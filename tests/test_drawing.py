"""Pictures that a run leaves."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from matplotlib import rc_context
from PIL import Image

from rfray.stages import drawing
from rfray.stages.drawing import _figure, _save, save_alignment


@pytest.fixture
def alignment(tmp_path, monkeypatch):
    """A picture with all of a colour scale in it; as matplotlib draws it, and as it is left."""
    drawn = BytesIO()

    def remembered(figure, path):
        figure.savefig(drawn, format="png")
        _save(figure, path)

    monkeypatch.setattr(drawing, "_save", remembered)
    ramp = np.linspace(0, 1, 54 * 54, dtype=np.float32).reshape(1, 54, 54)
    shuffled = np.zeros((1, 54), np.float32)
    save_alignment(tmp_path / "cka.png", "a title", ramp, shuffled, [f"conv{n}" for n in range(54)])
    return drawn, tmp_path / "cka.png"


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


def test_what_a_user_has_set_for_saved_figures_changes_no_picture(tmp_path):
    for name, settings in (("a", {}), ("b", {"savefig.dpi": 300, "savefig.bbox": "tight"})):
        with rc_context(settings):
            figure = _figure("a title", 4.1234)
            figure.subplots().plot([1, 2, 3])
            _save(figure, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
