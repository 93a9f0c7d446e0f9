"""What the tests of faults share: the study, its undisturbed numbers, a count of the survived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from faulty import RUNS, SWEEP, Results, results, runs
from in_process import sweep
from ray.cluster_utils import Cluster
from ray_nodes import ray_cluster

_SURVIVED = "survived"


@pytest.fixture
def folder(tmp_path):
    """A scratch folder of its own with the study in it."""
    (tmp_path / "faulty.yaml").write_text(SWEEP)
    return tmp_path


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Results:
    """The numbers of the study as they are when nothing goes wrong."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "faulty.yaml").write_text(SWEEP)
    sweep(folder)
    numbers = results(runs(folder))
    assert len(numbers.metrics) == RUNS
    return numbers


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A Ray of two cores, for the tests of the group `cluster`: one process runs all of these."""
    with ray_cluster(head_cpus=2) as started:
        yield started


@pytest.fixture
def survived(request):
    """Say that the study survived a fault, some number of times."""

    def count(fault: str, times: int = 1) -> None:
        request.node.user_properties.append((_SURVIVED, [fault, times]))

    return count


def pytest_terminal_summary(terminalreporter):
    counts: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", []):
            if name == _SURVIVED and report.when == "call":
                counts[value[0]] += value[1]
    if counts:
        terminalreporter.section(f"faults survived: {counts.total()}")
        for fault, times in sorted(counts.items()):
            terminalreporter.line(f"{times:4d}  {fault}")
