"""Mathematics alone: Hessian products, eigenvalues, quadrature and kernel alignment.

Nothing here knows of rfray, Ray or MLflow. Every algorithm takes a `SymmetricOperator` or plain
tensors, so that each can be tried on an explicit matrix.
"""

from rfray.numerics.errors import NumericsError
from rfray.numerics.hessian import hessian_operator
from rfray.numerics.kernel_alignment import (
    alignment,
    centred_gram,
    normalised_grams,
    undefined_layers,
)
from rfray.numerics.lanczos import Eigenpairs, largest_eigenvalues
from rfray.numerics.operator import (
    SymmetricOperator,
    check_operator,
    matrix_operator,
    relocated,
)
from rfray.numerics.quadrature import SpectralDensity, smoothed, spectral_density
from rfray.numerics.ritz import RitzValues, ritz_values
from rfray.numerics.support import embedded, restricted, support

__all__ = [
    "Eigenpairs",
    "NumericsError",
    "RitzValues",
    "SpectralDensity",
    "SymmetricOperator",
    "alignment",
    "centred_gram",
    "check_operator",
    "embedded",
    "hessian_operator",
    "largest_eigenvalues",
    "matrix_operator",
    "normalised_grams",
    "relocated",
    "restricted",
    "ritz_values",
    "smoothed",
    "spectral_density",
    "support",
    "undefined_layers",
]
