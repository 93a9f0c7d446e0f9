"""The public schema of runs, as far as the analysis relies on it (`docs/mlflow.md`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

STAGES = (
    "sample",
    "search",
    "train",
    "prune",
    "finetune",
    "hessian",
    "cka",
    "barrier",
    "erf",
    "probe",
    "saturation",
    "importance",
)
"""Stages in the order in which a reader meets them."""

STANDARD_AXES = ("dataset", "arch", "kernel_size", "width")
"""Axes that belong to a cell's identity whether or not the study document names them."""

ASKED_FIELD = "asked_receptive_field"
"""The axis `receptive_field` of a study document, by the name that it has beside the param of that
name: what was asked for is not always what was reached."""

TURNS = (ASKED_FIELD, "strength", "kernel_size")
"""Axes along which a study changes the receptive field; one of them counts."""

STUDY = "study"
"""The axis of the studies, where several stand side by side."""

OF_A_SEARCH = ("sample", "search")
"""Stages that choose settings of training."""

SEED = "seed"
"""The axis that tables average over."""

OVER_SEEDS = frozenset({"cka", "barrier"})
"""Stages that compare the seeds of a cell, of which they need two."""

OWN_PARAMETER: Mapping[str, str] = MappingProxyType(
    {
        "prune": "rate",
        "finetune": "rate",
        "hessian": "at",
        "cka": "at",
        "erf": "at",
        "saturation": "at",
        "sample": "sample",
    }
)
"""The parameter by which a stage runs several times on one cell, or on one group of seeds."""

USUAL: Mapping[str, str] = MappingProxyType({"cka": "trained"})
"""Its value of runs, study documents and columns that do not say it, and that names leave out."""

AXES_NOT_APPLYING: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "cka": frozenset({SEED}),
        "barrier": frozenset({SEED}),
        "importance": frozenset({"dataset", SEED}),
        "sample": frozenset({SEED}),
        "search": frozenset({SEED}),
    }
)
"""Axes that a stage's runs do not have: cka and barrier span the seeds, importance needs no data, a
search chooses for all seeds."""

NEEDS: Mapping[str, str] = MappingProxyType(
    {
        "prune": "train",
        "finetune": "prune",
        "hessian": "train",
        "erf": "train",
        "probe": "train",
        "saturation": "train",
    }
)
"""The stage on the same cell whose result a stage works on."""

OF_LAYERS = frozenset(
    {
        "live_sparsity",
        "activation_variance_ratio_pruned",
        "activation_variance_ratio_repaired",
    }
)
"""Metrics that a network which cannot be read has none of."""

READS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "train": frozenset(),
        "prune": frozenset({"train"}),
        "finetune": frozenset({"prune", "train"}),
        "hessian": frozenset({"train"}),
        "cka": frozenset({"train"}),
        "barrier": frozenset({"train"}),
        "erf": frozenset({"train"}),
        "probe": frozenset({"train"}),
        "saturation": frozenset({"train"}),
        "importance": frozenset(),
        "sample": frozenset(),
        "search": frozenset({"sample"}),
    }
)
"""All stages whose results a stage reads: their settings are axes of its runs too."""


def told(stage: str, parameter: object | None) -> bool:
    """Whether the value of a stage's own parameter is said with the stage: `hessian init`."""
    return parameter is not None and parameter != USUAL.get(stage)


def applies(axis: str, stage: str) -> bool:
    """Whether the runs of a stage have an axis; a stage of somebody's own reads train."""
    owner, dot, _ = axis.partition(".")
    if dot:
        if stage in OF_A_SEARCH:  # its settings are those of the training that it chooses for
            return owner == "train"
        return owner == stage or owner in READS.get(stage, frozenset({"train"}))
    return axis not in AXES_NOT_APPLYING.get(stage, frozenset())


METRICS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "train": frozenset(
            {
                "train_loss",
                "train_accuracy",
                "test_loss",
                "test_accuracy",
                "validation_loss",
                "validation_accuracy",
                "learning_rate",
                "epoch_seconds",
            }
        ),
        "prune": frozenset(
            {
                "test_accuracy",
                "accuracy_drop",
                "sparsity",
                "live_sparsity",
                "activation_variance_ratio_pruned",
                "activation_variance_ratio_repaired",
            }
        ),
        "finetune": frozenset(
            {
                "test_accuracy",
                "accuracy_drop",
                "sparsity",
                "live_sparsity",
                "validation_loss",
                "validation_accuracy",
            }
        ),
        "hessian": frozenset({"eigenvalue", "residual", "trace"}),
        "cka": frozenset({"cka_diagonal_mean", "cka_shuffled_mean"}),
        "barrier": frozenset(
            {
                "loss_barrier",
                "loss_barrier_mean",
                "loss_barrier_std",
                "accuracy_barrier",
                "accuracy_barrier_mean",
                "accuracy_barrier_std",
                "train_loss_barrier_mean",
                "train_loss_barrier_std",
                "train_accuracy_barrier_mean",
                "train_accuracy_barrier_std",
            }
        ),
        "erf": frozenset(
            {
                "erf_radius",
                "erf_area_95",
                "erf_share",
                "erf_radius_last",
                "erf_area_95_last",
                "erf_share_last",
            }
        ),
        "probe": frozenset({"probe_accuracy", "tail_start", "field_exceeds_image_at"}),
        "saturation": frozenset({"saturation", "saturation_mean"}),
        "importance": frozenset({"max_importance", "max_importance_mean", "max_importance_std"}),
        "sample": frozenset(
            {
                "train_loss",
                "train_accuracy",
                "validation_loss",
                "validation_accuracy",
                "epoch_seconds",
            }
        ),
        "search": frozenset(
            {
                "validation_loss",
                "validation_accuracy",
                "samples_tried",
                "samples_diverged",
                "samples_stopped",
                "settings_at_edge",
            }
        ),
    }
)
"""Metrics that each stage logs."""

HEADLINES: Mapping[str, str] = MappingProxyType(
    {
        "train": "test_accuracy",
        "prune": "test_accuracy",
        "finetune": "test_accuracy",
        "hessian": "trace",
        "cka": "cka_diagonal_mean",
        "barrier": "loss_barrier_mean",
        "erf": "erf_radius_last",
        "probe": "tail_start",
        "saturation": "saturation_mean",
        "importance": "max_importance_mean",
        "sample": "validation_accuracy",
        "search": "validation_accuracy",
    }
)
"""The metric that says in one number how each stage went: what settings are compared by."""

_PERCENTAGE = (0.0, 100.0)
_SHARE = (0.0, 1.0)
_COSINE = (-1.0, 1.0)
_AT_LEAST_0 = (0.0, math.inf)

BOUNDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "train_accuracy": _PERCENTAGE,
        "test_accuracy": _PERCENTAGE,
        "validation_accuracy": _PERCENTAGE,
        "accuracy_drop": (-100.0, 100.0),
        "sparsity": _SHARE,
        "live_sparsity": _SHARE,
        "activation_variance_ratio_pruned": _AT_LEAST_0,
        "activation_variance_ratio_repaired": _AT_LEAST_0,
        "cka_diagonal_mean": _COSINE,
        "cka_shuffled_mean": _COSINE,
        "loss_barrier": _AT_LEAST_0,
        "loss_barrier_mean": _AT_LEAST_0,
        "accuracy_barrier": _PERCENTAGE,
        "accuracy_barrier_mean": _PERCENTAGE,
        **dict.fromkeys(
            ("erf_radius", "erf_radius_last", "erf_area_95", "erf_area_95_last"), _AT_LEAST_0
        ),
        # Above 1 where a gate lets the gradient leave the theoretical field.
        **dict.fromkeys(("erf_share", "erf_share_last"), _AT_LEAST_0),
        "probe_accuracy": _PERCENTAGE,
        "tail_start": _AT_LEAST_0,
        "field_exceeds_image_at": _AT_LEAST_0,
        "saturation": _SHARE,
        "saturation_mean": _SHARE,
    }
)
"""The least and the greatest value of the metrics that have them."""

RESTS_ON_TEST_ACCURACY = frozenset({"test_accuracy", "accuracy_drop"})
"""Metrics that say nothing of a network whose test accuracy is at chance level."""

HELD_OUT = ("validation_images", "train_images")
"""Params of runs on a data set of which images are held out: how many, and how many are left."""

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
