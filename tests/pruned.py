"""Masks by the names that sweep files use, for tests of what follows pruning."""

from __future__ import annotations

from rfray.training.pruning import all_weights, pruning_masks
from rfray.training.pruning_criteria import CRITERIA, SCOPES


def masks_of(module, names, rate, scope="global", criterion="magnitude", seed=0, among=None):
    candidates = all_weights(module, names) if among is None else among
    return pruning_masks(module, candidates, rate, SCOPES[scope], CRITERIA[criterion](seed))
