from __future__ import annotations

import subprocess
import sys

import pytest

BEFORE_IMPORT = """
from rfray.engine.threads import allow_threads
import sys
allow_threads({first})
allow_threads({last})
assert "torch" not in sys.modules
import torch
print(torch.get_num_threads())
"""

AFTER_IMPORT = """
import torch
from rfray.engine.threads import allow_threads
allow_threads({first})
allow_threads({last})
print(torch.get_num_threads())
"""


@pytest.mark.parametrize("program", [BEFORE_IMPORT, AFTER_IMPORT])
def test_pytorch_uses_as_many_threads_as_were_allowed_last(program):
    code = program.format(first=2, last=3)
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "3"
