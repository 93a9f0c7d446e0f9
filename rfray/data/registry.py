"""Every data set by its name. A new data set is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rfray.data import cifar, digits, idx, image_folder, stl10, svhn, tiny_imagenet
from rfray.data.dataset import DatasetSource
from rfray.errors import UserError, nearest


def _fixed(source: DatasetSource) -> Callable[[], DatasetSource]:
    return lambda: source


DATASETS: Mapping[str, Callable[[], DatasetSource]] = {
    "digits": _fixed(digits.SOURCE),
    "cifar10": _fixed(cifar.CIFAR10_SOURCE),
    "cifar100": _fixed(cifar.CIFAR100_SOURCE),
    "tiny_imagenet": _fixed(tiny_imagenet.SOURCE),
    "imagefolder": image_folder.source,
    # By the name of torchvision's class.
    "CIFAR10": _fixed(cifar.CIFAR10_SOURCE),
    "CIFAR100": _fixed(cifar.CIFAR100_SOURCE),
    "FashionMNIST": _fixed(idx.FASHION_MNIST_SOURCE),
    "KMNIST": _fixed(idx.KMNIST_SOURCE),
    "MNIST": _fixed(idx.MNIST_SOURCE),
    "STL10": _fixed(stl10.SOURCE),
    "SVHN": _fixed(svhn.SOURCE),
}
"""What makes each source. It reads no file, but for `imagefolder`, whose facts lie in its files."""


def dataset_source(name: str) -> DatasetSource:
    """The registered data set called `name`; UserError, naming the nearest, if there is none."""
    try:
        make = DATASETS[name]
    except KeyError:
        raise UserError(
            f"no data set is called '{name}'", where="axes.dataset", do=nearest(name, DATASETS)
        ) from None
    return make()
