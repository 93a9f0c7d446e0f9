"""One number of a table, with all that is known about it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rfray.analysis.published import PublishedValue
from rfray.analysis.report_file import Column, MeasuredColumn
from rfray.analysis.slots import Identity
from rfray.analysis.statistics import Summary


@dataclass(frozen=True)
class Entry:
    """One number of a table.

    Attributes:
        block: The axes and values that it shares with cells that differ in the kernel size only.
        receptive_field: Its theoretical receptive field in pixels; None if no run records it.
        summary: Mean, deviation and interval of its sample.
        n_planned: Number of values that the sample should have.
        published: The published values for it, by source.
        flaws: What is wrong with its sample, in words: each missing value, and why it is missing.
        values: Its sample, by seed or draw.
        runs: Ids of the runs that were measured, by seed; under None if runs have no seed.
        precisions: The precisions of its runs, if they are recorded.
        at_chance: Whether its accuracies, or those of one side of its differences, are at chance
            level.
        test_images: Number of images that an accuracy was measured on; None if it is not a test
            accuracy, or if the number is not recorded.
        sampling_error: Standard error of the mean accuracy due to the number of test images, in
            percentage points; NaN if their number is None.
        colour_of: The kernel size whose colour the cell has: its own, or the number that replaces
            it.
        map_size: Pixels of the last map; None if runs do not record it.
    """

    identity: Identity
    block: Identity
    receptive_field: int | None
    column: Column
    summary: Summary
    n_planned: int
    published: Mapping[str, PublishedValue]
    flaws: tuple[str, ...]
    values: Mapping[int | None, float]
    runs: Mapping[int | None, tuple[str, ...]]
    precisions: frozenset[str] = frozenset()
    at_chance: bool = False
    test_images: int | None = None
    sampling_error: float = math.nan
    colour_of: int = 2
    map_size: int | None = None

    @property
    def complete(self) -> bool:
        """Whether no value is missing."""
        return self.summary.n == self.n_planned

    @property
    def over(self) -> str:
        """What its mean is taken over: `seeds` or `draws`."""
        return self.column.over if isinstance(self.column, MeasuredColumn) else "seeds"

    @property
    def run_ids(self) -> list[str]:
        """Its runs once each, in the order of the seeds."""
        return list(dict.fromkeys(run for runs in self.runs.values() for run in runs))

    @property
    def note(self) -> str:
        """How many values are missing, then every flaw; empty if there is none."""
        short = f"{self.summary.n} of {self.n_planned} {self.over}"
        count = "missing" if self.summary.n == 0 else short
        whole = self.complete and self.summary.n > 0
        return "; ".join(self.flaws if whole else (count, *self.flaws))
