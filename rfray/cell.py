"""A cell: the choices that make one trained network."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from pydantic import Field

from rfray.data.dataset import DatasetFacts
from rfray.data.registry import dataset_source
from rfray.models.geometry import Geometry, geometry
from rfray.models.network import Network
from rfray.models.registry import architecture
from rfray.parameters import Parameters


class Cell(Parameters):
    """One trained network: data set, architecture, seed. Its fields are a sweep's axes."""

    dataset: str
    arch: str
    kernel_size: Annotated[int, Field(ge=2)]
    seed: Annotated[int, Field(ge=0)]
    width: Annotated[float, Field(gt=0, le=8)] = 1.0

    @property
    def facts(self) -> DatasetFacts:
        """Facts of the cell's data set; UserError if it is not registered."""
        return dataset_source(self.dataset).facts

    @property
    def network(self) -> Network:
        """The cell's network, without weights; UserError if it is not registered."""
        return _network(self.arch, self.kernel_size, self.width, self.facts.classes)

    @property
    def geometry(self) -> Geometry:
        """Receptive fields, map sizes, live weights and cost at the data set's image size."""
        return geometry(self.network, self.facts.image_size)


@cache
def _network(arch: str, kernel_size: int, width: float, classes: int) -> Network:
    return architecture(arch)(kernel_size=kernel_size, width=width, classes=classes)
