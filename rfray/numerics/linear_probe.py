"""Multinomial logistic regression on fixed features (a probe), solved to a given gradient norm.

Alain & Bengio, *Understanding Intermediate Layers Using Linear Classifier Probes*, ICLR workshop
2017. The problem is convex and has one solution. It is solved in coordinates in which the Hessian
of the objective at the start is the identity, so that few steps of L-BFGS are needed. The solution
and the norm of its gradient are given in the coordinates of the features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from rfray.numerics.errors import NumericsError

_REMEMBERED_STEPS = 20
"""Number of steps from which L-BFGS estimates the curvature."""


@dataclass(frozen=True)
class LinearProbe:
    """A fitted linear classifier, which standardises the features itself; tensors are float64.

    Attributes:
        mean: Of each training feature, (features,).
        deviation: Of each training feature, (features,); 1 for a feature that does not vary.
        weights: (features, classes), for standardised features.
        bias: (classes,).
        iterations: Steps of L-BFGS.
        gradient_norm: Euclidean norm of the objective's gradient in weights and bias, computed
            again at the end. With the best bias, the distance of the weights from the solution is
            at most this divided by l2, the weight of the penalty.
        converged: Whether the norm is at most the tolerance.
    """

    mean: Tensor
    deviation: Tensor
    weights: Tensor
    bias: Tensor
    iterations: int
    gradient_norm: float
    converged: bool

    def logits(self, features: Tensor) -> Tensor:
        """(points, classes) for features (points, features), float64."""
        return ((features - self.mean) / self.deviation) @ self.weights + self.bias

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Accuracy in percent: the share of points whose largest logit is that of their label."""
        correct = (self.logits(features).argmax(1) == labels).sum()
        return 100 * int(correct) / len(labels)


def fit_probe(
    features: Tensor,
    labels: Tensor,
    classes: int,
    l2: float,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
) -> LinearProbe:
    """Minimise mean cross-entropy + l2 / 2 · ‖weights‖² over weights and bias.

    The features are standardised first; the bias has no penalty. It is scikit-learn's
    `LogisticRegression(C=1 / (l2 * points))` after its `StandardScaler`. `features` is (points,
    features) float64, and `labels` (points,) int64 below `classes`; a class may have no point. The
    tolerance is the largest norm of the gradient of a solution.

    Raises:
        NumericsError: A feature is not finite.
    """
    if not bool(features.isfinite().all()):
        raise NumericsError("a feature is not finite")
    deviation, mean = torch.std_mean(features, dim=0, correction=0)
    deviation = torch.where(deviation > 1e-12 * mean.abs(), deviation, 1.0)
    objective = _Objective((features - mean) / deviation, labels, classes, l2)
    found = minimize(
        objective.value_and_gradient,
        np.zeros(objective.size),
        method="L-BFGS-B",
        jac=True,
        callback=objective.ends_within(tolerance),
        options={
            "maxiter": max_iterations,
            "maxfun": 20 * max_iterations,
            "maxcor": _REMEMBERED_STEPS,
            "ftol": 0.0,
            "gtol": 0.0,
        },
    )
    objective.value_and_gradient(found.x)
    weights, bias = objective.solution(found.x)
    norm = objective.gradient_norm
    return LinearProbe(mean, deviation, weights, bias, int(found.nit), norm, norm <= tolerance)


class _Objective:
    """The objective, as scipy calls it, in coordinates V with W = basis · scale · V.

    At W = 0 the Hessian in W is covariance / classes + l2 (on vectors that sum to 0 over classes).
    In its eigenbasis, scaled by the inverse roots of its eigenvalues, it is the identity. The last
    row of V is the bias: the weight of a feature that is always 1 and has no penalty.
    """

    def __init__(self, points: Tensor, labels: Tensor, classes: int, l2: float) -> None:
        values, self._basis = torch.linalg.eigh(points.T @ points / len(points))
        scale = (values.clamp(min=0) / classes + l2).rsqrt()
        of_bias = scale.new_tensor([classes**0.5])
        ones = of_bias.expand(len(points), 1)
        self._design = torch.cat([points @ self._basis * scale, ones], dim=1)
        self._scale = torch.cat([scale, of_bias])[:, None]
        self._penalty = torch.cat([l2 * scale.square(), 0 * of_bias])[:, None]
        self._labels = labels
        self._classes = classes
        self.size = len(self._scale) * classes
        """Number of elements of V."""
        self.gradient_norm = float("inf")
        """Norm of the gradient in W and the bias at the last evaluation."""

    def value_and_gradient(self, flat: Any) -> tuple[float, Any]:
        at = self._tensor(flat)
        logits = self._design @ at
        log_sums = logits.logsumexp(1)
        own = logits.gather(1, self._labels[:, None]).squeeze(1)
        penalised = self._penalty * at
        value = (log_sums - own).mean() + 0.5 * (penalised * at).sum()
        errors = (logits - log_sums[:, None]).exp()
        errors.scatter_add_(1, self._labels[:, None], -torch.ones_like(own)[:, None])
        gradient = self._design.T @ errors / len(own) + penalised
        self.gradient_norm = float((gradient / self._scale).norm())
        return float(value), gradient.flatten().cpu().numpy()

    def ends_within(self, tolerance: float) -> Any:
        """A callback for scipy after each step: it ends the iteration if the gradient is small."""

        def callback(intermediate_result: Any) -> None:
            del intermediate_result  # a step ends at the last evaluation of the objective
            if self.gradient_norm <= tolerance:
                raise StopIteration

        return callback

    def solution(self, flat: Any) -> tuple[Tensor, Tensor]:
        """Weights (features, classes) and bias (classes,)."""
        scaled = self._tensor(flat) * self._scale
        return self._basis @ scaled[:-1], scaled[-1]

    def _tensor(self, flat: Any) -> Tensor:
        return torch.from_numpy(flat).to(self._design).view(-1, self._classes)


def tail_start(accuracies: Sequence[float], tolerance: float) -> int:
    """Index, from 0, of the first layer from which accuracy no longer rises.

    No later layer's accuracy is more than `tolerance` above that layer's: the later layers are the
    tail of Richter et al. 2021. If it is the last layer, there is no tail.
    """
    places = range(len(accuracies))
    return next(at for at in places if max(accuracies[at:]) <= accuracies[at] + tolerance)
