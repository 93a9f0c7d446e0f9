"""How a network is trained: the parameters that `train` and `finetune` share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rfray.parameters import Parameters

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class TrainingProtocol(Parameters):
    """Stochastic gradient descent with momentum on the mean cross-entropy, epoch by epoch."""

    epochs: Count = Field(default=200, description="Passes over the training images.")
    batch_size: Count = Field(default=128, description="Images in one step.")
    learning_rate: Positive = Field(default=0.1, description="At the first epoch.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.9, description="Of SGD.")
    weight_decay: NonNegative = Field(default=5e-4, description="L2 penalty on every parameter.")
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine",
        description="Learning rate over epochs; cosine falls to 0 over `epochs` (Loshchilov 2017).",
    )
    gradient_clip: Positive | None = Field(
        default=0.1, description="Largest L2 norm of the whole gradient; null does not clip."
    )
    augmentation: Literal["dataset", "none", "crop_flip", "resized_crop_flip"] = Field(
        default="dataset",
        description="crop_flip: padded by 4 pixels, cropped, mirrored at random. "
        "resized_crop_flip: a random rectangle at the image's size, mirrored at random. "
        "dataset: what is usual for the data set.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Of the forward and backward pass (torch.autocast); weights stay float32. "
        "auto: bfloat16 on a GPU, float32 on a CPU.",
    )
    channels_last: bool = Field(
        default=True, description="Memory layout of images, maps and weights: NHWC, else NCHW."
    )
    compile: bool = Field(
        default=False, description="torch.compile the network; pays for itself in long training."
    )
    images_per_epoch: Count | None = Field(
        default=None,
        description="Images drawn without repetition for each epoch; null takes them all.",
    )

    def images_seen(self, train_images: int) -> int:
        """Images that the whole protocol puts through the network, of `train_images` a pass."""
        return self.epochs * min(train_images, self.images_per_epoch or train_images)
