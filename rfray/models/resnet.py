"""ResNet50 in its CIFAR form, with a receptive-field pool (`resnet50`)."""

from rfray.models.network import Network, scaled
from rfray.models.operations import Add, BatchNorm, Convolution, GlobalAveragePool, Linear, Relu
from rfray.models.stem import with_pool

_STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
"""Blocks, inner channels and first stride of each stage (He et al. 2016, Table 1)."""

_EXPANSION = 4


def resnet50(kernel_size: int, width: float, classes: int) -> Network:
    """ResNet50 for small images: a 3×3 stride-1 stem, bottleneck stages 3-4-6-3, one linear layer.

    The receptive-field pool is after the first convolution, its batch norm and ReLU, as in the
    study's code. The 3×3 convolution of the first block of a stage has the stride.

    Args:
        kernel_size: Kernel of the receptive-field pool; 1 for none.
        width: Multiplier of every channel count.
        classes: Number of logits.
    """
    channels = scaled(64, width)
    network = (
        Network(stem="stem_relu")
        .then("stem_conv", Convolution(3, channels))
        .then("stem_norm", BatchNorm(channels))
        .then("stem_relu", Relu())
    )
    for stage, (blocks, inner, first_stride) in enumerate(_STAGES, start=1):
        for block in range(1, blocks + 1):
            stride = first_stride if block == 1 else 1
            network = _bottleneck(
                network, f"stage{stage}_block{block}", channels, scaled(inner, width), stride
            )
            channels = scaled(inner, width) * _EXPANSION
    network = network.then("average_pool", GlobalAveragePool()).then(
        "classifier", Linear(channels, classes)
    )
    return with_pool(network, kernel_size)


def _bottleneck(network: Network, name: str, channels: int, inner: int, stride: int) -> Network:
    """1×1, 3×3 (with the stride) and 1×1 convolution with a shortcut, projected if necessary."""
    entrance = network.output
    outer = inner * _EXPANSION
    network = (
        network.then(f"{name}_conv1", Convolution(channels, inner, kernel_size=1, padding=0))
        .then(f"{name}_norm1", BatchNorm(inner))
        .then(f"{name}_relu1", Relu())
        .then(f"{name}_conv2", Convolution(inner, inner, stride=stride))
        .then(f"{name}_norm2", BatchNorm(inner))
        .then(f"{name}_relu2", Relu())
        .then(f"{name}_conv3", Convolution(inner, outer, kernel_size=1, padding=0))
        .then(f"{name}_norm3", BatchNorm(outer))
    )
    trunk = network.output
    shortcut = entrance
    if stride != 1 or channels != outer:
        projection = Convolution(channels, outer, kernel_size=1, stride=stride, padding=0)
        network = network.then(f"{name}_shortcut_conv", projection, entrance).then(
            f"{name}_shortcut_norm", BatchNorm(outer)
        )
        shortcut = network.output
    return network.then(f"{name}_add", Add(), trunk, shortcut).then(f"{name}_relu3", Relu())
