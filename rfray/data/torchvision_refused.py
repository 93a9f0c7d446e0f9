"""The data sets of torchvision that cannot be trained on, and why."""

from __future__ import annotations

from collections.abc import Mapping

_DO_IT_YOURSELF = (
    "choose a split, save it as imagefolder/train/CLASS/* and imagefolder/test/CLASS/*, and write "
    "'imagefolder'"
)
_NO_SPLIT = f"publishes no training and test split ({_DO_IT_YOURSELF})"
_OTHER_CLASSES = (
    f"tests on other classes than it trains on, so no classifier fits ({_DO_IT_YOURSELF})"
)
_VIDEOS = "holds videos, not pictures"
_NO_CLASSES = "has no classes to tell apart"

REFUSED: Mapping[str, str] = {
    "Caltech101": _NO_SPLIT,
    "Caltech256": _NO_SPLIT,
    "EuroSAT": _NO_SPLIT,
    "SEMEION": _NO_SPLIT,
    "SUN397": _NO_SPLIT,
    "LFWPeople": _OTHER_CLASSES,
    "Omniglot": _OTHER_CLASSES,
    "CelebA": "gives a picture 40 attributes, not one class",
    "LSUN": f"makes torchvision unpickle a cache that nobody verified ({_DO_IT_YOURSELF})",
    "LSUNClass": _NO_CLASSES,
    "FakeData": "is random noise",
    "ImageFolder": "has no files of its own (write 'imagefolder')",
    "DatasetFolder": "has no files of its own (write 'imagefolder')",
    "VisionDataset": "has no files of its own (write 'imagefolder')",
    **dict.fromkeys(("HMDB51", "Kinetics", "MovingMNIST", "UCF101"), _VIDEOS),
    **dict.fromkeys(
        (
            *("CREStereo", "CarlaStereo", "Cityscapes", "CocoCaptions", "CocoDetection"),
            *("ETH3DStereo", "FallingThingsStereo", "Flickr30k", "Flickr8k", "FlyingChairs"),
            *("FlyingThings3D", "HD1K", "InStereo2k", "Kitti", "Kitti2012Stereo"),
            *("Kitti2015Stereo", "KittiFlow", "LFWPairs", "Middlebury2014Stereo", "PhotoTour"),
            *("SBDataset", "SBU", "SceneFlowStereo", "Sintel", "SintelStereo", "VOCDetection"),
            *("VOCSegmentation", "WIDERFace"),
        ),
        _NO_CLASSES,
    ),
}
"""torchvision's other data sets, each with the reason why it cannot be trained on."""
