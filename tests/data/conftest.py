"""A data folder of its own for every test."""

from __future__ import annotations

import pytest

from rfray.data.background import use_background


@pytest.fixture
def data_root(tmp_path, monkeypatch):
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setenv("RFRAY_DATA", str(root))
    return root


@pytest.fixture(autouse=True)
def _no_background():
    yield
    use_background(None)
