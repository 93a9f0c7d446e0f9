"""The networks of torchvision and timm by their names, without pretrained weights."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rfray.errors import nearest
from rfray.plugins.user_code import file_digest

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Library:
    """A package that has networks by name.

    Attributes:
        package: Its name, with which its networks' names begin: `timm:resnet18`.
        extra: The extra of rfray that installs it; empty if rfray always installs it.
        names: The names of its networks that rfray may be able to read.
        function: Gives the function that makes the network of a name.
        settings: The arguments of that function other than the number of classes.
    """

    package: str
    extra: str
    names: Callable[[], Iterable[str]]
    function: Callable[[str], Callable[..., nn.Module]]
    settings: Callable[[str], Mapping[str, Any]]

    def problem(self, name: str) -> str | None:
        """What is wrong with the name of one of its networks; None if nothing is."""
        if importlib.util.find_spec(self.package) is None:
            return f"{self.package} is not installed (pip install 'rfray[{self.extra}]')"
        known = self.names()
        if name in known:
            return None
        advice = nearest(f"{self.package}:{name}", (f"{self.package}:{one}" for one in known))
        return f"{self.package} has no classification network '{name}' ({advice})"

    def maker(self, name: str) -> Callable[[int], nn.Module]:
        """The function from a number of classes to the network of a name."""
        function, settings = self.function(name), self.settings(name)
        return lambda classes: function(num_classes=classes, **settings)

    def code(self, name: str) -> str:
        """The name, with a digest of the file of its function."""
        function = inspect.unwrap(self.function(name))
        return f"{name}-{file_digest(Path(inspect.getfile(function)))}"


_INCEPTION = {"aux_logits": False, "init_weights": True}

_WITHOUT_FURTHER_HEADS: Mapping[str, Mapping[str, bool]] = {
    # Without the heads that are for training only: networks have one output here.
    "googlenet": _INCEPTION,
    "inception_v3": _INCEPTION,
}


@cache
def _of_torchvision() -> tuple[str, ...]:
    from torchvision import models

    return tuple(models.list_models(module=models))


def _torchvision_function(name: str) -> Callable[..., nn.Module]:
    from torchvision import models

    function: Callable[..., nn.Module] = models.get_model_builder(name)
    return function


@cache
def _of_timm() -> tuple[str, ...]:
    import timm

    return tuple(timm.list_models())


def _timm_function(name: str) -> Callable[..., nn.Module]:
    import timm

    function: Callable[..., nn.Module] = timm.models.model_entrypoint(name)
    return function


LIBRARIES: Mapping[str, Library] = MappingProxyType(
    {
        "torchvision": Library(
            "torchvision",
            "",
            _of_torchvision,
            _torchvision_function,
            lambda name: {"weights": None, **_WITHOUT_FURTHER_HEADS.get(name, {})},
        ),
        "timm": Library("timm", "timm", _of_timm, _timm_function, lambda _: {"pretrained": False}),
    }
)
"""Libraries by the prefix of their networks' names."""
