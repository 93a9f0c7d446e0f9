"""The part of the public schema of runs that the analysis uses (`docs/mlflow.md`)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

STANDARD_AXES = ("dataset", "arch", "kernel_size", "width")
"""Axes that are always part of a cell's identity, even if the study document does not name them."""

ASKED_FIELD = "asked_receptive_field"
"""The axis `receptive_field` of a study document. It has another name here because runs have a
param `receptive_field`, the field that was reached, and the two may differ."""

TURNS = (ASKED_FIELD, "strength", "kernel_size")
"""Axes along which a study may change the receptive field; the first that it has counts."""

STUDY = "study"
"""The axis of the studies, in a comparison of several."""

OF_A_SEARCH = ("sample", "search")
"""Stages that choose settings of training."""

SEED = "seed"
"""The axis that tables average over."""


@dataclass(frozen=True)
class _Stage:
    """What the schema says about a stage.

    Attributes:
        metrics: The metrics that its runs log; the first is the headline.
        reads: All stages whose results it reads; the first is the one that it works on.
        own: The parameter by which it runs several times on one cell, or on one group of seeds.
        without: Axes that its runs do not have.
    """

    metrics: tuple[str, ...]
    reads: tuple[str, ...] = ()
    own: str = ""
    without: frozenset[str] = frozenset()


def _spread(metric: str) -> tuple[str, str]:
    return f"{metric}_mean", f"{metric}_std"


_NO_SEED = frozenset({SEED})
_VALIDATED = ("validation_accuracy", "validation_loss")
_TRAINED = ("train_loss", "train_accuracy", "epoch_seconds")
_THINNED = ("test_accuracy", "accuracy_drop", "sparsity", "live_sparsity")
_RATIOS = ("activation_variance_ratio_pruned", "activation_variance_ratio_repaired")
_COUNTED = ("samples_tried", "samples_diverged", "samples_stopped", "settings_at_edge")
_FIELDS = ("erf_radius", "erf_area_95", "erf_share")
_LAST_FIELDS = ("erf_radius_last", "erf_area_95_last", "erf_share_last")
_BARRIERS = (
    *(*_spread("loss_barrier"), *_spread("accuracy_barrier")),
    *(*_spread("train_loss_barrier"), *_spread("train_accuracy_barrier")),
    *("loss_barrier", "accuracy_barrier"),
)

_STAGES: Mapping[str, _Stage] = {
    "sample": _Stage((*_VALIDATED, *_TRAINED), own="sample", without=_NO_SEED),
    "search": _Stage((*_VALIDATED, *_COUNTED), ("sample",), without=_NO_SEED),
    "train": _Stage(("test_accuracy", "test_loss", "learning_rate", *_VALIDATED, *_TRAINED)),
    "prune": _Stage((*_THINNED, *_RATIOS), ("train",), "rate"),
    "finetune": _Stage((*_THINNED, *_VALIDATED), ("prune", "train"), "rate"),
    "hessian": _Stage(("trace", "eigenvalue", "residual"), ("train",), "at"),
    "cka": _Stage(("cka_diagonal_mean", "cka_shuffled_mean"), ("train",), "at", _NO_SEED),
    "barrier": _Stage(_BARRIERS, ("train",), without=_NO_SEED),
    "erf": _Stage((*_LAST_FIELDS, *_FIELDS), ("train",), "at"),
    "probe": _Stage(("tail_start", "probe_accuracy", "field_exceeds_image_at"), ("train",)),
    "saturation": _Stage(("saturation_mean", "saturation"), ("train",), "at"),
    "importance": _Stage(
        (*_spread("max_importance"), "max_importance"), without=frozenset({"dataset", SEED})
    ),
}

STAGES = tuple(_STAGES)
"""Stages in the order in which a report shows them."""

METRICS: Mapping[str, frozenset[str]] = {n: frozenset(one.metrics) for n, one in _STAGES.items()}
"""Metrics that each stage logs."""

HEADLINES: Mapping[str, str] = {name: one.metrics[0] for name, one in _STAGES.items()}
"""The most important metric of each stage: settings are compared by it."""

OVER_SEEDS = frozenset({"cka", "barrier"})
"""Stages that compare the seeds of a cell, and so need at least two."""

OWN_PARAMETER: Mapping[str, str] = {name: one.own for name, one in _STAGES.items() if one.own}
"""The parameter by which a stage runs several times on one cell, or on one group of seeds."""

USUAL: Mapping[str, str] = {"cka": "trained"}
"""The value of that parameter if a run, study document or column does not give one. Names leave
this value out."""

AXES_NOT_APPLYING: Mapping[str, frozenset[str]] = {
    name: one.without for name, one in _STAGES.items() if one.without
}
"""Axes that a stage's runs do not have: cka and barrier compare the seeds, importance needs no
data, a search chooses for all seeds."""

READS: Mapping[str, frozenset[str]] = {name: frozenset(one.reads) for name, one in _STAGES.items()}
"""All stages whose results a stage reads: their settings are axes of its runs as well."""

NEEDS: Mapping[str, str] = {
    name: one.reads[0] for name, one in _STAGES.items() if one.reads and not one.without
}
"""The stage on the same cell whose result a stage works on."""

OF_LAYERS = frozenset({"live_sparsity", *_RATIOS})
"""Metrics that a network which cannot be read does not have."""

_ACCURACIES = ("train_accuracy", "test_accuracy", "validation_accuracy", "probe_accuracy")
_LOSSES = ("loss_barrier", "loss_barrier_mean")
_PLACES = ("tail_start", "field_exceeds_image_at")

BOUNDS: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys((*_ACCURACIES, "accuracy_barrier", "accuracy_barrier_mean"), (0.0, 100.0)),
    "accuracy_drop": (-100.0, 100.0),
    **dict.fromkeys(("sparsity", "live_sparsity", "saturation", "saturation_mean"), (0.0, 1.0)),
    **dict.fromkeys(("cka_diagonal_mean", "cka_shuffled_mean"), (-1.0, 1.0)),
    # The share of the field exceeds 1 if a gate lets the gradient leave the theoretical field.
    **dict.fromkeys((*_RATIOS, *_LOSSES, *_FIELDS, *_LAST_FIELDS, *_PLACES), (0.0, math.inf)),
}
"""The least and the greatest possible value of a metric."""


def told(stage: str, parameter: object | None) -> bool:
    """Whether the name of a stage includes the value of its own parameter: `hessian init`."""
    return parameter is not None and parameter != USUAL.get(stage)


def not_applying(stage: str) -> frozenset[str]:
    """The axes that a stage's runs do not have."""
    return AXES_NOT_APPLYING.get(stage, frozenset())


def applies(axis: str, stage: str) -> bool:
    """Whether the runs of a stage have an axis; a stage that is not rfray's own reads train."""
    owner, dot, _ = axis.partition(".")
    if dot:
        if stage in OF_A_SEARCH:  # its settings are those of the training that it chooses for
            return owner == "train"
        return owner == stage or owner in READS.get(stage, frozenset({"train"}))
    return axis not in not_applying(stage)


RESTS_ON_TEST_ACCURACY = frozenset({"test_accuracy", "accuracy_drop"})
"""Metrics that mean nothing for a network whose test accuracy is at chance level."""

HELD_OUT = ("validation_images", "train_images")
"""Params of runs on a data set with a validation split: images held out, images left to train."""

STAGE_TAG = "rfray.stage"
KEY_TAG = "rfray.key"
VERSION_TAG = "rfray.version"
GIT_TAG = "rfray.git"
HARDWARE_TAG = "rfray.hardware"
SECONDS_TAG = "rfray.seconds"
ERROR_TAG = "rfray.error"
REMARK_TAG = "rfray.remark"
SUPERSEDED_TAG = "rfray.superseded"
TAKEN_FROM_TAG = "rfray.taken_from"
TAKEN_FROM_STUDY_TAG = "rfray.taken_from_study"
PARENT_TAG = "mlflow.parentRunId"
