"""A cell: the choices that make one trained network."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from pydantic import Field

from rfray.data.amount import Amount
from rfray.data.dataset import DatasetFacts
from rfray.data.registry import dataset_source
from rfray.data.validation import with_validation
from rfray.models.geometry import Geometry, geometry
from rfray.models.network import Network
from rfray.models.outside import code_digest
from rfray.models.registry import architecture
from rfray.parameters import Parameters


class Cell(Parameters):
    """One network on one data set: what a stage computes on."""

    dataset: str = Field(
        description="Names of data sets; `NAME@64` scales its pictures to 64 pixels."
    )
    arch: str = Field(
        description="Names of networks, rfray's own or a plug-in's; `torchvision:NAME` and "
        "`timm:NAME` are those libraries', `FILE.py:FUNCTION` what a function makes of the number "
        "of classes."
    )
    kernel_size: Annotated[int, Field(ge=1)] = Field(
        description="Of the max-pool behind the first convolution, 2 or more; sets the receptive "
        "field. 1 for `torchvision:` and `FILE.py:` networks, which are taken as they are."
    )
    seed: Annotated[int, Field(ge=0)] = Field(
        description="Of initialisation and the order of images; equal seeds, equal numbers."
    )
    width: Annotated[float, Field(gt=0, le=8)] = Field(
        default=1.0, description="Times the channels of the paper's networks."
    )
    validation: Amount | None = Field(
        default=None,
        description="Held out of the training images: a number of them, or a share.",
    )

    @property
    def facts(self) -> DatasetFacts:
        """Facts of the cell's data set, without the images that are held out for validation.

        Raises:
            UserError: It is not registered, or that much cannot be held out.
        """
        return with_validation(dataset_source(self.dataset).facts, self.validation)

    @property
    def network(self) -> Network:
        """The cell's network, without weights; UserError if there is none, or it cannot be read."""
        code = code_digest(self.arch)
        return _network(self.arch, code, self.kernel_size, self.width, self.facts.classes)

    @property
    def geometry(self) -> Geometry:
        """Receptive fields, map sizes, live weights and cost at the data set's image size."""
        return geometry(self.network, self.facts.image_size)


OF_THE_STUDY = frozenset({"validation"})
"""What all cells of a study have in common: no axis, and no part of a cell's name."""


@cache
def _network(arch: str, _code: str, kernel_size: int, width: float, classes: int) -> Network:
    return architecture(arch)(kernel_size=kernel_size, width=width, classes=classes)
