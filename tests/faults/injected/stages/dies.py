"""dies: a stage that the kernel kills each time, as it does with what takes all memory."""

import os
import signal
from pathlib import Path

from rfray.parameters import Parameters
from rfray.stages.stage import Stage


class DiesParameters(Parameters):
    """Nothing to choose."""


def run(context):
    with Path(context.checkpoint / "attempts").open("a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


STAGE = Stage(
    name="dies",
    version=1,
    parameters=DiesParameters,
    scope="cell",
    reads=("train",),
    run=run,
    work=lambda parameters, cell: 1.0,
    summary="was killed",
    headline="nothing",
)
