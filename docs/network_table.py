"""Makes docs/networks.md: receptive fields and sizes of rfray's own and of torchvision's networks.

python docs/network_table.py > docs/networks.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from rfray.models.geometry import Geometry, geometry
from rfray.models.network import Network
from rfray.models.outside import outside_network
from rfray.models.registry import ARCHITECTURES, architecture

TORCHVISION = (
    "resnet18",
    "resnet50",
    "vgg11_bn",
    "vgg16",
    "densenet121",
    "googlenet",
    "mobilenet_v2",
    "squeezenet1_1",
    "shufflenet_v2_x1_0",
    "efficientnet_b0",
    "regnet_y_400mf",
    "convnext_tiny",
)
KERNEL_SIZES = (2, 3, 4, 5)

_TOP = """\
# Networks and their receptive fields

This page helps you to choose a network: it compares the receptive fields, sizes and costs of
rfray's own networks and of torchvision's. `rfray plan` gives the same numbers for any network,
your own too, at the size of your images. The page is made by `docs/network_table.py`, by
arithmetic only: nothing is trained.

How to read the columns:

- **receptive field**: of the last convolution, in pixels.
- **multiplications**: for one image.
- **live weights**: the share of the convolutions' weights that ever meet a real pixel.
- **field above the image**: how many of the convolutions have a receptive field larger than the
  image.
- **from**: the first of these convolutions. Layers from there on can learn little that earlier
  layers cannot (Richter et al. 2021).

Gates (squeeze-and-excitation) see the whole image from the start, so receptive field and count
leave them out. A 1×1 convolution that a network writes as a linear layer (convnext) is not
counted.

`tests/test_traced.py` compares receptive fields and live weights of torchvision's networks with a
numerical probe, layer by layer, and parameters and multiplications with what torchvision
publishes.

A network that cannot be read, for example one with attention, has no receptive field and is not
on this page. It [can be trained](extending.md#a-network-that-cannot-be-read) all the same.
"""

_COLUMNS = {
    "network": "---",
    "receptive field": "--:",
    "map sizes": "---",
    "parameters": "--:",
    "multiplications": "--:",
    "live weights": "--:",
    "field above the image": "--:",
    "from": "---",
}
_HEAD = f"\n| {' | '.join(_COLUMNS)} |\n|{'|'.join(_COLUMNS.values())}|\n"


def line(name: str, network: Network, image_size: int) -> str:
    """The table's line of one network."""
    shape = geometry(network, image_size)
    wide = exceeding(shape, image_size)
    maps = " ".join(str(size) for size in shape.map_sizes)
    cells = (
        name,
        f"{shape.receptive_field:,}",
        maps,
        f"{shape.parameters:,}",
        f"{shape.multiplications / 1e6:,.1f} M",
        f"{100 * (1 - shape.dead_fraction):.1f} %",
        f"{len(wide)} of {len(placed(shape))}",
        f"`{wide[0]}`" if wide else "",
    )
    return f"| {' | '.join(cells)} |"


def placed(shape: Geometry) -> list[str]:
    """Names of the convolutions whose units see different places: not those of gates."""
    return [name for name in shape.convolution_names if shape.layer(name).window.jump]


def exceeding(shape: Geometry, image_size: int) -> list[str]:
    """Names of those convolutions whose receptive field is larger than the image."""
    return [name for name in placed(shape) if shape.layer(name).window.size > image_size]


def own_lines(image_size: int) -> Iterator[str]:
    """The lines of rfray's own networks, for 10 classes, at full width."""
    for name in ARCHITECTURES:
        for kernel_size in KERNEL_SIZES:
            network = architecture(name)(kernel_size, 1.0, 10)
            yield line(f"`{name}`, kernel_size {kernel_size}", network, image_size)


def torchvision_lines(names: Iterable[str], image_size: int) -> Iterator[str]:
    """The lines of torchvision's networks, for 1,000 classes."""
    for name in names:
        network = outside_network(f"torchvision:{name}", 1, 1.0, 1000)
        yield line(f"`torchvision:{name}`", network, image_size)


def page() -> str:
    """The whole page."""
    tables = (
        ("rfray's own, on 32 pixels (CIFAR-10)", own_lines(32)),
        ("rfray's own, on 64 pixels (Tiny ImageNet)", own_lines(64)),
        ("torchvision's, on 224 pixels (ImageNet)", torchvision_lines(TORCHVISION, 224)),
        ("torchvision's, on 64 pixels", torchvision_lines(TORCHVISION, 64)),
    )
    parts = [f"\n## {title}\n{_HEAD}" + "\n".join(lines) + "\n" for title, lines in tables]
    return _TOP + "".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("networks.md").write_text(page(), encoding="utf-8")
