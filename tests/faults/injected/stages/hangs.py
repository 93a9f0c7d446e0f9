"""hangs: a stage that never ends, in C code that holds Python's lock."""

import ctypes

from rfray.parameters import Parameters
from rfray.stages.stage import Stage


class HangsParameters(Parameters):
    """Nothing to choose."""


def run(context):
    ctypes.PyDLL(None).pause()


STAGE = Stage(
    name="hangs",
    version=1,
    parameters=HangsParameters,
    scope="cell",
    reads=("train",),
    run=run,
    work=lambda parameters, cell: 1.0,
    summary="hung",
    headline="nothing",
)
