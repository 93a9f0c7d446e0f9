"""hoards: a stage that asks for more memory than its process may have."""

import resource
from pathlib import Path

from rfray.parameters import Parameters
from rfray.stages.stage import Stage


class HoardsParameters(Parameters):
    """Nothing to choose."""


def run(context):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + 2**28
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        hoard = []
        while True:
            hoard.append(bytearray(2**26))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


STAGE = Stage(
    name="hoards",
    version=1,
    parameters=HoardsParameters,
    scope="cell",
    reads=("train",),
    run=run,
    work=lambda parameters, cell: 1.0,
    summary="ran out of memory",
    headline="nothing",
)
