"""Linear probes against scikit-learn, on features whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from rfray.numerics.errors import NumericsError
from rfray.numerics.linear_probe import fit_probe, tail_start


def blobs(apart, points=300, features=12, classes=5):
    """Correlated features of unlike scale, whose classes lie `apart`, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(points) % classes
    centres = rng.normal(size=(classes, features))
    mixing = rng.normal(size=(features, features)) * np.logspace(0, -2, features)
    drawn = (apart * centres[labels] + rng.normal(size=(points, features))) @ mixing.T + 7
    return torch.from_numpy(drawn), torch.from_numpy(labels)


def scikit_learns(features, labels, l2):
    scaler = StandardScaler().fit(features.numpy())
    model = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-10, max_iter=20_000)
    model.fit(scaler.transform(features.numpy()), labels.numpy())
    return model, scaler


@pytest.mark.parametrize("l2", [1e-1, 1e-2, 1e-3])
def test_scikit_learn_finds_the_same_classifier(l2):
    features, labels = blobs(0.4)
    probe = fit_probe(features, labels, 5, l2, tolerance=1e-9)
    model, scaler = scikit_learns(features, labels, l2)
    assert probe.converged
    np.testing.assert_allclose(probe.weights.T, model.coef_, atol=1e-5)
    np.testing.assert_allclose(probe.bias, model.intercept_, atol=1e-5)
    other, other_labels = features.flip(0) + 0.1, labels.flip(0)
    theirs = model.score(scaler.transform(other.numpy()), other_labels.numpy())
    assert probe.accuracy(other, other_labels) == pytest.approx(100 * theirs)


def test_the_gradient_is_that_of_the_objective_as_it_is_written():
    """Autograd of the plain formula, at a solution that was cut short."""
    features, labels = blobs(0.4)
    l2 = 1e-2
    probe = fit_probe(features, labels, 5, l2, max_iterations=3)
    weights = probe.weights.clone().requires_grad_()
    bias = probe.bias.clone().requires_grad_()
    standard = (features - features.mean(0)) / features.std(0, correction=0)
    entropy = torch.nn.functional.cross_entropy(standard @ weights + bias, labels)
    gradients = torch.autograd.grad(entropy + l2 / 2 * weights.square().sum(), (weights, bias))
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    assert probe.gradient_norm == pytest.approx(float(norm), rel=1e-8)
    assert probe.iterations == 3
    assert not probe.converged


def test_classes_that_a_plane_parts_are_all_told():
    features, labels = blobs(20.0)
    probe = fit_probe(features, labels, 5, l2=1e-3)
    assert probe.accuracy(features, labels) == 100


def test_features_that_tell_nothing_leave_the_bias_alone():
    """A constant feature: the shares of the classes are all that can be learnt."""
    labels = torch.tensor([0, 0, 0, 1])
    probe = fit_probe(torch.full((4, 1), 0.1, dtype=torch.float64), labels, 2, l2=1e-2)
    assert probe.weights.abs().max() == 0
    shares = probe.logits(torch.full((1, 1), 0.1, dtype=torch.float64)).softmax(1)
    np.testing.assert_allclose(shares[0], [0.75, 0.25], atol=1e-5)


def test_more_features_than_points_and_classes_without_points():
    rng = np.random.default_rng(1)
    features = torch.from_numpy(rng.normal(size=(20, 50)))
    labels = torch.arange(20) % 3
    probe = fit_probe(features, labels, 4, l2=1e-2)
    assert probe.converged
    assert probe.accuracy(features, labels) == 100


def test_a_second_fit_is_the_first_to_the_last_bit():
    features, labels = blobs(0.4)
    one, two = (fit_probe(features, labels, 5, l2=1e-3) for _ in range(2))
    assert torch.equal(one.weights, two.weights)
    assert one.gradient_norm == two.gradient_norm


def test_features_that_are_not_finite_are_refused():
    features, labels = blobs(0.4)
    features[3, 3] = torch.nan
    with pytest.raises(NumericsError, match="not finite"):
        fit_probe(features, labels, 5, l2=1e-2)


@pytest.mark.parametrize(
    ("accuracies", "start"),
    [
        ([20, 50, 80, 90, 90.5, 89, 90.9], 3),
        ([20, 50, 80, 90], 3),
        ([20, 50, 30, 90, 60, 90], 3),
        ([90, 80, 70], 0),
        ([20, 91, 60, 92], 1),
        ([50], 0),
    ],
)
def test_the_tail_starts_where_no_later_layer_is_better_by_more_than_a_point(accuracies, start):
    assert tail_start(accuracies, 1.0) == start
