"""Mathematics only: Hessian products, eigenvalues, quadrature, kernel alignment and others.

It does not depend on the rest of rfray, on Ray or on MLflow. Every algorithm takes a
`SymmetricOperator` or plain tensors, so that it can be tested with an explicit matrix.
"""

from rfray.numerics.errors import NumericsError
from rfray.numerics.hessian import hessian_operator
from rfray.numerics.kernel_alignment import (
    BlockPass,
    GramSum,
    UnbiasedGramSum,
    alignment,
    block_passes,
    equal_gram_weight,
    undefined_layers,
)
from rfray.numerics.krylov import RitzPairs, ritz_values
from rfray.numerics.lanczos import (
    BasisPlace,
    Eigenpairs,
    largest_eigenvalues,
    permitted_residuals,
    place_basis,
)
from rfray.numerics.operator import SymmetricOperator, check_operator, matrix_operator, relocated
from rfray.numerics.power_iteration import PowerValues, power_values
from rfray.numerics.quadrature import SpectralDensity, smoothed, spectral_density
from rfray.numerics.shuffled_alignment import derangement, equal_layers_alignment, shuffle_rows
from rfray.numerics.support import embedded, restricted, support

__all__ = [
    "BasisPlace",
    "BlockPass",
    "Eigenpairs",
    "GramSum",
    "NumericsError",
    "PowerValues",
    "RitzPairs",
    "SpectralDensity",
    "SymmetricOperator",
    "UnbiasedGramSum",
    "alignment",
    "block_passes",
    "check_operator",
    "derangement",
    "embedded",
    "equal_gram_weight",
    "equal_layers_alignment",
    "hessian_operator",
    "largest_eigenvalues",
    "matrix_operator",
    "permitted_residuals",
    "place_basis",
    "power_values",
    "relocated",
    "restricted",
    "ritz_values",
    "shuffle_rows",
    "smoothed",
    "spectral_density",
    "support",
    "undefined_layers",
]
