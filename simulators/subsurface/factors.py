"""Sparse LDL' factors of one matrix pattern, lent to one caller at a time.

qdldl orders and analyses the pattern when a factor is made and renews its values in
`update`. A factor on loan is used by one thread alone; what comes back is used again.
"""

import numpy as np
import qdldl
from scipy.sparse import csc_matrix

from simulators.subsurface.condensation import Floats


class FactorPool:
    """Factors of one pattern; `solve` with any number of them at the same time.

    Args:
        matrix: upper triangle with the pattern of all and the values of one regular
            positive definite matrix.
    """

    def __init__(self, matrix: csc_matrix) -> None:
        self._matrix = matrix
        self._idle: list[qdldl.Solver] = []  # append, extend and pop are atomic
        self._idle.append(self._borrow())
        self.bytes_per_factor = 16 * int(self._idle[0].factors()[0].nnz)

    def solve(self, data: Floats, rhs: Floats) -> Floats:
        """Solutions (members, n) of matrices with values (members, nnz)."""
        factor = self._borrow()
        x = self._renew_and_solve([factor] * len(data), data, rhs)
        self._idle.append(factor)
        return x

    def solve_and_keep(self, data: Floats, rhs: Floats) -> tuple[Floats, "KeptFactors"]:
        """As `solve`, with one factor per member kept for further right-hand sides."""
        factors = [self._borrow() for _ in data]
        return self._renew_and_solve(factors, data, rhs), KeptFactors(factors, self)

    def factorise(self, data: Floats) -> "KeptFactors":
        """One factor per member, for matrices with values (members, nnz)."""
        matrix, factors = self._matrix.copy(), [self._borrow() for _ in data]
        for values, factor in zip(data, factors, strict=True):
            matrix.data = values
            factor.update(matrix, upper=True)
        return KeptFactors(factors, self)

    def give_back(self, factors: list[qdldl.Solver]) -> None:
        """Take factors that their borrower no longer needs."""
        self._idle.extend(factors)

    def _borrow(self) -> qdldl.Solver:
        try:
            return self._idle.pop()
        except IndexError:
            return qdldl.Solver(self._matrix, upper=True)

    def _renew_and_solve(
        self, factors: list[qdldl.Solver], data: Floats, rhs: Floats
    ) -> Floats:
        matrix, x = self._matrix.copy(), np.empty_like(rhs)
        for i, factor in enumerate(factors):
            matrix.data = data[i]
            factor.update(matrix, upper=True)
            x[i] = factor.solve(rhs[i])
        return x


class KeptFactors:
    """Factors of some members; they return to their pool when nobody refers to them.

    The autograd graph holds them between the solve and its adjoint, however often
    and in whatever order graphs are built, used and dropped.
    """

    def __init__(self, factors: list[qdldl.Solver], pool: FactorPool) -> None:
        self._factors, self._pool = factors, pool

    def __del__(self) -> None:
        self._pool.give_back(self._factors)

    def solve(self, rhs: Floats) -> Floats:
        """Solutions (members, n) for right-hand sides (members, n)."""
        pairs = zip(self._factors, rhs, strict=True)
        return np.stack([factor.solve(b) for factor, b in pairs])

    def solve_many(self, rhs: Floats) -> Floats:
        """Solutions (k, n) of the one member kept, for right-hand sides (k, n)."""
        (factor,) = self._factors
        return np.stack([factor.solve(b) for b in rhs])
