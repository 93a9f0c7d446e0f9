"""A data folder of its own for every test."""

from __future__ import annotations

import pytest


@pytest.fixture
def data_root(tmp_path, monkeypatch):
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setenv("RFRAY_DATA", str(root))
    return root
