"""Slots: the places in a study, each filled by one finished run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from rfray.analysis import schema
from rfray.analysis.values import Scalar, show

Identity = tuple[tuple[str, Scalar], ...]
"""(axis, value) pairs in the order of the study's axes: they make two table rows different."""


@dataclass(frozen=True)
class Slot:
    """One stage on one cell with its own parameter, such as finetune at 0.9 of one network.

    Attributes:
        identity: The cell's axes other than the seed.
        seed: The cell's seed; None for a stage that has none.
        parameter: The stage's own parameter (`rate`, `at`); None for a stage that has none.
    """

    stage: str
    identity: Identity
    seed: int | None = None
    parameter: Scalar | None = None

    def stage_label(self) -> str:
        """The stage with its parameter: `finetune 0.9`, `hessian init`."""
        told = schema.told(self.stage, self.parameter)
        return f"{self.stage} {show(self.parameter)}" if told else self.stage

    def on(self, stage: str) -> Slot:
        """The slot of a stage that this one works on, with the parameter if both have it."""
        shared = schema.OWN_PARAMETER.get(stage) == schema.OWN_PARAMETER.get(self.stage)
        parameter = self.parameter if shared else None
        return Slot(stage, applying(self.identity, stage), self.seed, parameter)


@dataclass(frozen=True)
class CellNames:
    """Names cells, with as few words as make the cells of one study different.

    `varying` are the axes with several values, other than data set, network and kernel size.
    """

    varying: frozenset[str]

    @classmethod
    def of(cls, identities: Iterable[Identity]) -> CellNames:
        """The namer for a study with these identities."""
        seen: dict[str, set[Scalar]] = {}
        for identity in identities:
            for axis, value in identity:
                seen.setdefault(axis, set()).add(value)
        plain = {"dataset", "arch", "kernel_size", schema.ASKED_FIELD}
        return cls(frozenset(a for a, values in seen.items() if len(values) > 1) - plain)

    def cell(self, identity: Identity) -> str:
        """`vgg19_rf digits k=3`, followed by the other axes that vary: `width 0.5`."""
        values = dict(identity)
        words = [str(values[axis]) for axis in ("arch", "dataset") if axis in values]
        if "kernel_size" in values:
            words.append(f"k={values['kernel_size']}")
        if schema.ASKED_FIELD in values:
            words.append(f"RF={values[schema.ASKED_FIELD]}")
        words += [f"{a} {show(value)}" for a, value in identity if a in self.varying]
        return " ".join(words)

    def slot(self, slot: Slot) -> str:
        """`vgg19_rf digits k=3 seed 1: finetune 0.9`."""
        seed = "" if slot.seed is None else f" seed {slot.seed}"
        return f"{self.cell(slot.identity)}{seed}: {slot.stage_label()}"

    def file_stem(self, identity: Identity) -> str:
        """`vgg19_rf-digits`, followed by the other axes that vary: part of a file name."""
        words = self.cell(identity).replace("k=", "k").replace("RF=", "rf").split(" ")
        return "-".join(word.replace("/", "_") for word in words)


def size_words(identity: Identity) -> str:
    """The value that changes the receptive field of a cell: `k = 3`, `asked 359`, `strength 2`."""
    values = dict(identity)
    if schema.ASKED_FIELD in values:
        return f"asked {values[schema.ASKED_FIELD]}"
    if "kernel_size" in values:
        return f"k = {values['kernel_size']}"
    return f"strength {values.get('strength', '')}".strip()


def applying(identity: Identity, stage: str) -> Identity:
    """The identity without the axes that runs of `stage` do not have."""
    return tuple(pair for pair in identity if schema.applies(pair[0], stage))


def only(identity: Identity, axes: Collection[str]) -> Identity:
    """The identity with these axes only."""
    return tuple(pair for pair in identity if pair[0] in axes)


def without(identity: Identity, axis: str) -> Identity:
    """The identity without one axis."""
    return tuple(pair for pair in identity if pair[0] != axis)


def admits(where: Mapping[str, tuple[Scalar, ...]], identity: Identity) -> bool:
    """Whether an identity has one of the wanted values on every axis that `where` names."""
    values = dict(identity)
    return all(values.get(axis) in wanted for axis, wanted in where.items())
