"""Every data set by its name. A new data set is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping

from rfray.data import digits
from rfray.data.dataset import DatasetSource
from rfray.errors import UserError, nearest

DATASETS: Mapping[str, DatasetSource] = {
    "digits": digits.SOURCE,
}


def dataset_source(name: str) -> DatasetSource:
    """The registered data set called `name`; UserError, naming the nearest, if there is none."""
    try:
        return DATASETS[name]
    except KeyError:
        raise UserError(
            f"no data set is called '{name}'", where="axes.dataset", do=nearest(name, DATASETS)
        ) from None
