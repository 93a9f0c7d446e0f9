"""How a network is trained: the parameters that `train` and `finetune` share."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rfray.parameters import Parameters

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


class TrainingProtocol(Parameters):
    """Gradient descent on the mean cross-entropy, epoch by epoch.

    Settings that contradict each other are refused: see `contradiction`.
    """

    epochs: Count = Field(default=200, description="Passes over the training images.")
    batch_size: Count = Field(default=128, description="Images in one step.")
    optimizer: Literal["sgd", "adamw"] = Field(
        default="sgd",
        description="sgd: stochastic gradient descent with momentum. adamw: Adam with decoupled "
        "weight decay (Loshchilov 2019), whose learning rate is usually about 0.001.",
    )
    learning_rate: Positive = Field(
        default=0.1, description="In the first epoch, or in the first one after the warm-up."
    )
    momentum: BelowOne = Field(default=0.9, description="For sgd.")
    nesterov: bool = Field(default=False, description="For sgd: Nesterov's momentum.")
    betas: Annotated[list[BelowOne], Field(min_length=2, max_length=2)] = Field(
        default=[0.9, 0.999],
        description="For adamw: how slowly the means of gradient and squared gradient change.",
    )
    weight_decay: NonNegative = Field(
        default=5e-4,
        description="For all parameters. With sgd an L2 penalty; with adamw weights are reduced by "
        "learning_rate × weight_decay in each step.",
    )
    schedule: Literal["cosine", "constant", "step", "linear"] = Field(
        default="cosine",
        description="Learning rate over epochs. cosine (Loshchilov 2017) and linear fall towards "
        "0, which an epoch after the last would have; step multiplies by `gamma` after each of the "
        "`milestones`.",
    )
    milestones: list[Count] = Field(
        default=[],
        description="For step: the epochs after which the rate falls, counted from the first "
        "epoch, including the warm-up.",
    )
    gamma: Positive = Field(
        default=0.1, description="For step: the factor by which the rate is multiplied."
    )
    warmup_epochs: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Number w of warm-up epochs: epoch e has e / (w + 1) of the learning rate. The "
        "schedule begins after them.",
    )
    label_smoothing: BelowOne = Field(
        default=0.0,
        description="Share of the target that is spread evenly over all classes (Szegedy 2016). It "
        "changes train_loss, but no other reported loss.",
    )
    gradient_clip: Positive | None = Field(
        default=0.1, description="Largest L2 norm of the whole gradient; null does not clip."
    )
    augmentation: Literal["dataset", "none", "crop_flip", "resized_crop_flip"] = Field(
        default="dataset",
        description="crop_flip: padded by 4 pixels, cropped, mirrored at random. "
        "resized_crop_flip: a random rectangle scaled to the image's size, mirrored at random. "
        "dataset: the usual one for the data set.",
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
        default=False, description="torch.compile the network; worth it for long training only."
    )
    cuda_graph: bool | None = Field(
        default=None,
        description="For sgd on a GPU: replay each step as one CUDA graph, which gives the same "
        "numbers and is 2 to 5 times as fast on an H200. null: if possible, that is for every "
        "network that rfray can read, unless it is compiled. No effect on a CPU.",
    )
    images_per_epoch: Count | None = Field(
        default=None,
        description="Number of images drawn without repetition for each epoch; null uses all.",
    )
    deterministic: bool = Field(
        default=False,
        description="Equal bits on equal GPUs, but slower: only PyTorch's deterministic "
        "algorithms; an operation without one fails. On a CPU bits are always equal.",
    )

    @model_validator(mode="after")
    def _without_contradiction(self) -> Self:
        problem = contradiction(self)
        if problem is not None:
            raise ValueError(problem)
        return self

    def images_seen(self, train_images: int) -> int:
        """Number of images that pass through the network in all epochs, of `train_images`."""
        return self.epochs * min(train_images, self.images_per_epoch or train_images)


def contradiction(protocol: TrainingProtocol) -> str | None:
    """Which settings of a protocol contradict each other, in a sentence; None if none do."""
    return _in_optimizer(protocol) or _in_schedule(protocol) or _in_graph(protocol)


def together(protocol: TrainingProtocol) -> str | None:
    """Which setting does not allow several GPUs for one network, in a sentence; None if none."""
    for name in ("cuda_graph", "compile"):
        if getattr(protocol, name):
            return f"{name} is for one GPU"
    return None


def _in_graph(protocol: TrainingProtocol) -> str | None:
    if protocol.cuda_graph and protocol.optimizer != "sgd":
        return f"cuda_graph is for sgd only, and the optimizer is {protocol.optimizer}"
    if protocol.cuda_graph and protocol.compile:
        return "cuda_graph and compile cannot be used together (leave one out)"
    return None


def _in_optimizer(protocol: TrainingProtocol) -> str | None:
    if protocol.optimizer == "adamw":
        if protocol.nesterov:
            return "nesterov is for sgd, and the optimizer is adamw (leave nesterov out)"
        if _changed(protocol, "momentum"):
            return "momentum is for sgd, and the optimizer is adamw (leave it out: adamw has betas)"
        return None
    if _changed(protocol, "betas"):
        return "betas are for adamw, and the optimizer is sgd (leave them out: sgd has momentum)"
    if protocol.nesterov and protocol.momentum == 0:
        return "nesterov needs a momentum, which is 0 (leave nesterov out, or give a momentum)"
    return None


def _in_schedule(protocol: TrainingProtocol) -> str | None:
    epochs, warmup = protocol.epochs, protocol.warmup_epochs
    if warmup >= epochs:
        return f"warmup_epochs is {warmup}, and there are {epochs} epochs (warm up for fewer)"
    if protocol.schedule == "step":
        return _in_milestones(protocol.milestones, epochs, warmup)
    for name in ("milestones", "gamma"):
        if _changed(protocol, name):
            return f"{name} belongs to schedule step, and the schedule is {protocol.schedule}"
    return None


def _in_milestones(milestones: list[int], epochs: int, warmup: int) -> str | None:
    if not milestones:
        return "schedule step has no milestones (add milestones: [...], or take schedule constant)"
    if milestones != sorted(set(milestones)):
        return f"milestones do not ascend: {milestones}"
    if milestones[-1] >= epochs:
        return f"milestone {milestones[-1]} has no epoch after it: there are {epochs}"
    if milestones[0] <= warmup:
        return f"milestone {milestones[0]} is not after the warm-up of {warmup} epochs"
    return None


def _changed(protocol: TrainingProtocol, name: str) -> bool:
    """Whether a setting is not at its default."""
    return bool(getattr(protocol, name) != type(protocol).model_fields[name].default)
