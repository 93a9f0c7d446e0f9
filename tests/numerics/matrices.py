"""Explicit symmetric matrices with prescribed eigenvalues, the oracles of this folder."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def matrix_with(eigenvalues, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """A symmetric matrix with these eigenvalues and random eigenvectors, rounded to `dtype`."""
    eigenvalues = np.asarray(eigenvalues, dtype=np.float64)
    size = len(eigenvalues)
    vectors = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    matrix = (vectors * eigenvalues) @ vectors.T
    return torch.tensor((matrix + matrix.T) / 2, dtype=dtype)


def eigenvalues_of(matrix: Tensor) -> np.ndarray:
    """Every eigenvalue in float64, largest first."""
    return np.linalg.eigvalsh(matrix.double().numpy())[::-1].copy()
