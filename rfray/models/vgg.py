"""VGG19 with a receptive-field pool (`vgg19_rf`)."""

from rfray.models.network import Network, scaled
from rfray.models.operations import BatchNorm, Convolution, GlobalAveragePool, Linear, MaxPool, Relu
from rfray.models.stem import with_pool

_BLOCKS = ((64, 64), (128, 128), (256,) * 4, (512,) * 8)
"""Output channels of the 3×3 convolutions between the three 2×2 max-pools."""


def vgg19_rf(kernel_size: int, width: float, classes: int) -> Network:
    """VGG19 for small images: 16 convolutions with bias, batch norm and ReLU, one linear layer.

    The receptive-field pool is after the first convolution, before its batch norm, as in the
    study's code. There are three 2×2 max-pools, and at the end an adaptive average pool to 1×1.

    Args:
        kernel_size: Kernel of the receptive-field pool; 1 for none.
        width: Multiplier of every channel count.
        classes: Number of logits.
    """
    network = Network()
    channels = 3
    for block, outputs in enumerate(_BLOCKS, start=1):
        for position, output in enumerate(outputs, start=1):
            name = f"block{block}_conv{position}"
            out_channels = scaled(output, width)
            network = network.then(name, Convolution(channels, out_channels, bias=True))
            network = network.then(f"block{block}_norm{position}", BatchNorm(out_channels))
            network = network.then(f"block{block}_relu{position}", Relu())
            channels = out_channels
        if block < len(_BLOCKS):
            network = network.then(f"block{block}_pool", MaxPool(2, stride=2))
    network = network.then("average_pool", GlobalAveragePool()).then(
        "classifier", Linear(channels, classes)
    )
    return with_pool(network, kernel_size)
