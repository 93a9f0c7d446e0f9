"""What can be found out about a module that cannot be read: from its parts, and by a trial."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy
from torch.utils.flop_counter import FlopCounterMode

from rfray.errors import UserError
from rfray.models.opaque import OpaqueNetwork
from rfray.models.traced import line_of
from rfray.plugins.user_code import in_a_line

_IMAGES = 2
"""The smallest number with which a batch norm has statistics for any map size."""

_OPERATIONS_TO_MULTIPLICATION = 2
"""PyTorch counts a multiplication and its addition as two operations."""


@dataclass(frozen=True)
class Trial:
    """The result of a trial pass.

    Attributes:
        logits: Number of logits for each image.
        multiplications: Multiply-accumulate operations for one image, as PyTorch counts them.
    """

    logits: int
    multiplications: int


def opaque_network(
    module: nn.Module, make: Callable[[], nn.Module], code: str, reason: str
) -> OpaqueNetwork:
    """A module as a network of which nothing else is known.

    Raises:
        UserError: Two of its parameters are the same tensor, or one has no size yet.
    """
    named = list(module.named_parameters(remove_duplicate=False))
    first: dict[int, str] = {}
    for name, parameter in named:
        if is_lazy(parameter):
            raise UserError(
                f"the parameter '{name}' of {type(module).__name__} has no size before its first "
                "images",
                do="give its module the size that it needs",
            )
        if first.setdefault(id(parameter), name) != name:
            raise UserError(
                f"the parameters '{first[id(parameter)]}' and '{name}' of {type(module).__name__} "
                "are the same tensor, which cannot be stored in a file of weights",
                do="give each module its own parameter",
            )
    return OpaqueNetwork(
        make=make,
        code=code,
        reason=reason,
        parameters=tuple((name, tuple(one.shape)) for name, one in named if one.requires_grad),
        weights=tuple(_weights(module)),
    )


def _weights(module: nn.Module) -> Iterator[str]:
    """Names of the weights: not of biases, or of parameters of norms and embeddings."""
    for name, part in module.named_modules():
        held = (own for kinds, names in _HELD if isinstance(part, kinds) for own in names)
        for own in held:
            weight = getattr(part, own)
            if weight is not None and weight.requires_grad:
                yield f"{name}.{own}" if name else own


_HELD: tuple[tuple[tuple[type[nn.Module], ...], tuple[str, ...]], ...] = (
    ((nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d), ("weight",)),
    # The output projection of an attention is a separate linear layer.
    (
        (nn.MultiheadAttention,),
        ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"),
    ),
)
"""By kinds of modules, the parameters that are weights."""


def tried(network: OpaqueNetwork, image_size: int) -> Trial:
    """Pass noise through a new module, in training mode and in eval mode.

    The process's random state does not change.

    Raises:
        UserError: The module raises an error, with its line, or its output is not logits.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # The memory layout of training, which not every module can use.
        module = network.make().to(memory_format=torch.channels_last)
        images = torch.randn(_IMAGES, 3, image_size, image_size)
        images = images.contiguous(memory_format=torch.channels_last)
        counter = FlopCounterMode(display=False)
        # PyTorch counts the products of this kernel on every device.
        with counter, sdpa_kernel(SDPBackend.MATH):
            logits = _passed(module.train(), images)
        _passed(module.eval(), images[:1])
    operations = counter.get_total_flops()
    return Trial(logits.shape[1], operations // (_OPERATIONS_TO_MULTIPLICATION * _IMAGES))


def _passed(module: nn.Module, images: Tensor) -> Tensor:
    size = images.shape[-1]
    mode = "training" if module.training else "eval"
    call = f"{type(module).__name__} in {mode} mode, given images of {size}×{size} pixels,"
    try:
        with torch.no_grad():
            given = module(images)
    except Exception as error:  # a user's code may raise anything
        raise UserError(
            f"{call} raises {in_a_line(error)}",
            where=line_of(error),
            do="if it needs images of another size, write NAME@SIZE in axes.dataset",
        ) from error
    if not isinstance(given, Tensor):
        raise UserError(f"{call} gives a {type(given).__name__}, not one tensor of logits")
    if given.dim() != 2 or len(given) != len(images):
        shape = "×".join(map(str, given.shape))
        raise UserError(f"{call} gives {shape} numbers for {len(images)} images, not logits")
    return given
