"""A cell: one combination of a value from each axis, and so one network on one data set."""

from functools import cache
from typing import Annotated

from pydantic import AfterValidator, Field, Strict

from rfray.data.amount import Amount
from rfray.data.dataset import DatasetFacts
from rfray.data.registry import dataset_source
from rfray.data.validation import with_validation
from rfray.errors import UserError
from rfray.models.geometry import Geometry, geometry
from rfray.models.knobs import POOL, knob_code, knob_problem, turned
from rfray.models.network import Network
from rfray.models.opaque import AnyNetwork, OpaqueNetwork, trial
from rfray.models.outside import AS_IT_IS, code_digest, comes_from_outside
from rfray.models.registry import architecture
from rfray.models.stem import NO_POOL, with_pool
from rfray.parameters import Parameters, refusing


class Cell(Parameters):
    """One network on one data set: what a stage computes on."""

    dataset: str = Field(
        description="Names of data sets; `NAME@64` scales the images to 64 pixels."
    )
    arch: str = Field(
        description="Names of networks, from rfray or a plug-in. `torchvision:NAME` and "
        "`timm:NAME` take a network of that library, `FILE.py:FUNCTION` the network that a "
        "function returns for a number of classes."
    )
    kernel_size: Annotated[int, Field(ge=1)] = Field(
        default=NO_POOL,
        description="Kernel of the max-pool after the first convolution; sets the receptive field. "
        "1 means no pool: networks from outside are used unchanged.",
    )
    knob: Annotated[str, AfterValidator(refusing(knob_problem))] = Field(
        default=POOL,
        description="What changes the receptive field: pool, stride, dilation, convolution or "
        "dilated_pool. `receptive_field` or `strength` says how far it is turned.",
    )
    strength: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="How far the knob is turned, in its own unit: the pool's kernel, the factor of "
        "a stride or a dilation, the first convolution's kernel, the pool's dilation.",
    )
    seed: Annotated[int, Field(ge=0)] = Field(
        description="Seed of the initial weights and of the order of images. Equal seeds give "
        "equal numbers."
    )
    width: Annotated[float, Field(gt=0, le=8)] = Field(
        default=1.0, description="Number of channels, as a multiple of the paper's networks."
    )
    validation: Amount | None = Field(
        default=None, description="Training images to hold out: a number or a share."
    )
    layers: Annotated[tuple[str, ...], Strict(strict=False)] = Field(
        default=(), description="Layers that the knob `dilation` turns; empty: its default."
    )

    @property
    def facts(self) -> DatasetFacts:
        """Facts of the cell's data set, without the images that are held out for validation.

        Raises:
            UserError: There is no such data set, or that many images cannot be held out.
        """
        return with_validation(dataset_source(self.dataset).facts, self.validation)

    @property
    def any_network(self) -> AnyNetwork:
        """The cell's network, without weights.

        Raises:
            UserError: There is no such network, or its receptive field is to be changed but it
                cannot be read.
        """
        code = code_digest(self.arch)
        classes = self.facts.classes
        if self.strength is None:
            return _network(self.arch, code, self.kernel_size, self.width, classes)
        turn = (self.knob, knob_code(self.knob), self.strength, self.layers)
        return _turned(*turn, self.arch, code, self.width, classes)

    @property
    def network(self) -> Network:
        """The description of the cell's network; UserError if it cannot be read."""
        return _description(self.any_network, self.arch)

    @property
    def base(self) -> Network:
        """The same with no knob turned and no pool; UserError likewise."""
        code = code_digest(self.arch)
        any_network = _network(self.arch, code, NO_POOL, self.width, self.facts.classes)
        return _description(any_network, self.arch)

    @property
    def turned(self) -> tuple[str, int]:
        """The knob that sets the receptive field, and its strength; for a pool, its kernel."""
        return self.knob, self.kernel_size if self.strength is None else self.strength

    @property
    def turned_words(self) -> str:
        """The same in words: `kernel_size 3`, `dilation 2`."""
        name, strength = self.turned
        return f"{'kernel_size' if name == POOL else name} {strength}"

    @property
    def geometry(self) -> Geometry:
        """Receptive fields, map sizes, live weights and cost at the data set's image size.

        Raises:
            UserError: The network cannot be read, or cannot take images of that size.
        """
        return geometry(self.network, self.facts.image_size)

    @property
    def multiplications(self) -> int:
        """Multiply-accumulate operations of one forward pass of one image, of any network."""
        network = self.any_network
        if isinstance(network, OpaqueNetwork):
            return trial(network, self.facts.image_size).multiplications
        return self.geometry.multiplications

    @property
    def parameters(self) -> int:
        """Number of trainable parameters, of any network."""
        network = self.any_network
        return network.size if isinstance(network, OpaqueNetwork) else self.geometry.parameters


OF_THE_STUDY = frozenset({"validation", "layers"})
"""Fields that are equal for all cells of a study: not axes, and not part of a cell's name."""


@cache
def _network(arch: str, _code: str, kernel_size: int, width: float, classes: int) -> AnyNetwork:
    if comes_from_outside(arch):
        network = architecture(arch)(kernel_size=AS_IT_IS, width=width, classes=classes)
        if kernel_size == NO_POOL:
            return network
        return with_pool(_description(network, arch), kernel_size)
    return architecture(arch)(kernel_size=kernel_size, width=width, classes=classes)


@cache
def _turned(
    knob: str,
    _knob_code: str,
    strength: int,
    layers: tuple[str, ...],
    arch: str,
    code: str,
    width: float,
    classes: int,
) -> Network:
    base = _description(_network(arch, code, NO_POOL, width, classes), arch)
    return turned(knob, base, strength, layers)


def _description(network: AnyNetwork, arch: str) -> Network:
    """The network itself; UserError if it was not read."""
    if isinstance(network, OpaqueNetwork):
        raise UserError(
            f"its receptive field cannot be computed or changed: {network.reason}",
            where=arch,
            do="set kernel_size to 1 for it, to use it as it is",
        )
    return network
