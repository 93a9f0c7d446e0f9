"""follows: a stage that reads one that raises."""

from rfray.parameters import Parameters
from rfray.stages.stage import Stage


class FollowsParameters(Parameters):
    """Nothing to choose."""


def run(context):
    context.report(0, {"nothing": 0})


STAGE = Stage(
    name="follows",
    version=1,
    parameters=FollowsParameters,
    scope="cell",
    reads=("raises", "train"),
    run=run,
    work=lambda parameters, cell: 1.0,
    summary="followed",
    headline="nothing",
)
