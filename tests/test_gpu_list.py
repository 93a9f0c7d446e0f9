"""The list of what differs on a GPU, in docs/gpus.md, against the code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIST = (ROOT / "docs" / "gpus.md").read_text().partition("## What differs on a GPU")[2]
DIFFERS = re.compile(
    r"torch\.cuda|backends\.cud|is_cuda|pynvml|CudaCard\(|[=!]= \"(cuda|cpu)\"|\"cuda\" if"
)


def test_every_file_that_does_otherwise_on_a_gpu_is_listed():
    files = (path for path in (ROOT / "rfray").rglob("*.py") if DIFFERS.search(path.read_text()))
    missing = [name for path in files if (name := str(path.relative_to(ROOT))) not in LIST]
    assert missing == []


def test_every_line_of_the_list_names_a_test_that_exists_or_says_that_it_is_untested():
    rows = [line for line in LIST.splitlines() if line.startswith("| `")]
    assert rows
    for row in rows:
        where, _, how = row.strip("| ").split(" | ")
        tests = re.findall(r"`(tests/[^`]+)`", how)
        assert tests or "untested on a GPU" in how, row
        for name in [*re.findall(r"`(rfray/[^`]+)`", where), *tests]:
            assert (ROOT / name).is_file(), name
