"""raises: a stage with a mistake in it."""

from rfray.parameters import Parameters
from rfray.stages.stage import Stage


class RaisesParameters(Parameters):
    """Nothing to choose."""


def run(context):
    raise ArithmeticError("the stage has a mistake in it")


STAGE = Stage(
    name="raises",
    version=1,
    parameters=RaisesParameters,
    scope="cell",
    reads=("train",),
    run=run,
    work=lambda parameters, cell: 1.0,
    summary="raised",
    headline="nothing",
)
