"""The largest eigenvalues of a symmetric operator, each with its residual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rfray.numerics.errors import NumericsError
from rfray.numerics.krylov import KrylovDecomposition, RitzPairs
from rfray.numerics.operator import SymmetricOperator

Progress = Callable[[int, int], None]
"""Called with the products taken and the eigenvalues converged so far."""

_MARGIN = 0.8
"""Iterate to this part of the tolerance, so that rounding does not undo the verdict."""

_PROBE_STEPS = 20
_PROBE_SHARE = 0.1


@dataclass(frozen=True)
class Eigenpairs:
    """The algebraically largest eigenvalues of a symmetric operator H, largest first.

    Attributes:
        values: (count,) float64 on the CPU, λ.
        vectors: (dimension, count) orthonormal columns, where and in the dtype the operator takes
            them.
        residuals: (count,) float64 on the CPU, ‖Hv - λv‖₂ from a product with each v. Within this
            distance of λ there is an eigenvalue of H.
        converged: (count,) bool, residual ≤ tolerance · max(|λ|, eps^(2/3)·‖H‖).
        products: Vectors that were multiplied with H, those of the residuals included.
        restarts: How often the basis was reduced to its Ritz vectors.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    converged: Tensor
    products: int
    restarts: int




def largest_eigenvalues(
    operator: SymmetricOperator,
    count: int,
    *,
    generator: torch.Generator,
    tolerance: float = 1e-3,
    max_products: int | None = None,
    block_size: int = 1,
    basis_size: int | None = None,
    progress: Progress | None = None,
) -> Eigenpairs:
    """The `count` algebraically largest eigenvalues of a symmetric operator.
    """
    from types import SimpleNamespace
    capacity = min(operator.dimension, basis_size or default_basis_size(count, block_size))
    budget = max_products or 10**9
    widest = max(block_size, (capacity - count) // 2 if capacity<operator.dimension else block_size)
    k = KrylovDecomposition(operator, capacity, widest, generator)
    k.reseed(block_size)
    floor=None; start=0; width=block_size; restarts=0; interval=1+count//8; last=-10**9
    while True:
        room = min(k.width, capacity-k.size)
        if k.size + k.width > capacity or k.products + k.width > budget - count:
            pass
        k.grow()
        full = k.size + k.width > capacity
        if k.width and not full and k.products - last < interval and k.products + k.width + count <= budget:
            continue
        last = k.products
        p = k.ritz_pairs()
        goal = _goal(p.values, count, tolerance, operator.dtype)
        done = p.residuals[:count] <= goal[:len(p.residuals)]
        if progress: progress(k.products, int(done.sum()))
        if k.size == operator.dimension: break
        if k.products + k.width + count > budget: break
        if k.size >= count and bool(done.all()):
            top = p.values[:count]
            if floor is not None and k.products - start < max(_PROBE_STEPS, _PROBE_SHARE*start):
                pass
            elif floor is not None and not bool((top > floor + goal/_MARGIN).any()):
                break
            else:
                if floor is not None: width = min(2*width, widest)
                floor = top; start = k.products; k.shrink(p, count); k.reseed(width); restarts+=1
                continue
        if k.width == 0: k.reseed(width)
        elif full:
            keep = count + int((capacity-count)*KEEP); 
            k.shrink(p, min(keep,k.size)); restarts+=1
    k.shrink(p, min(count,k.size)); 
    vec = k.basis
    res = torch.cat([(k.operator.apply(v) - v*l).norm(dim=0).double().cpu() for v,l in zip(vec.split(1,dim=1), p.values[:count].tolist())])
    rule = tolerance*_scale(p.values,count,operator.dtype)
    return Eigenpairs(p.values[:count], vec, res, res<=rule, k.products, restarts)
KEEP=0.3
def default_basis_size(count, block): return max(2*count, count+20)
def _scale(values,count,dtype):
    return values[:count].abs().clamp(min=torch.finfo(dtype).eps**(2/3)*float(values.abs().max()))
def _goal(values, count, tolerance, dtype):
    return (_MARGIN*tolerance*_scale(values,count,dtype)).clamp(min=torch.finfo(dtype).eps*float(values.abs().max()))
