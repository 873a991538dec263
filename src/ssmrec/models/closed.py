"""Models that are solved at once, without loss, sampler or epochs: EASE, GF-CF, iALS.

EASE and GF-CF score by a matrix of item-item weights: a user's scores are the sum of the weight rows of
the items he has. They are vectors like any other, a user's being his history (`HistoryRows`).
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ssmrec.config import Config
from ssmrec.data import Interactions
from ssmrec.errors import ConfigError
from ssmrec.kernels.history import occur_together
from ssmrec.models.base import Backbone, Vectors
from ssmrec.models.history import HistoryRows
from ssmrec.models.start import singular_factors

logger = logging.getLogger("ssmrec")

_LOST = 4e-6
"""Share of pivots below which weights of EASE differed from float64 by more than a per cent."""


class ItemWeightsConfig(Config):
    """Attributes:
    max_items: largest catalogue to solve for; n items take a matrix of n * n * 4 bytes.
    """

    max_items: int = Field(default=50_000, ge=1)


class ItemWeights(Backbone):
    """Scores are R W: binary histories R (m, n) times item-item weights W (n, n)."""

    closed_form = True
    own_scores = True
    weights: Tensor

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        super().__init__(config, train, generator)
        if train.n_items > config.max_items:
            raise ConfigError(
                f"{train.n_items:,} items: their item-item matrix takes "
                f"{4 * train.n_items**2 / 2**30:,.0f} GiB; raise model.max_items "
                "if this machine has as much, drop rare items with data.min_item, or take "
                "model=ials or lightgcn"
            )
        self.train_pairs, self.generator = train, generator
        self.history = HistoryRows.of(train)
        # Solved or loaded before it is read; not filled, as it may be larger than what is left.
        self.register_buffer("weights", torch.empty(train.n_items, train.n_items))

    def vectors(self, users: Tensor | None = None, items: Tensor | None = None) -> Vectors:
        rows: Any = self.history if users is None else self.history[users]
        columns = self.weights.T if items is None else self.weights.T[items]
        return Vectors(rows, columns, rows, columns)

    @abstractmethod
    def solve(self) -> None:
        """Fill `weights`."""

    def _together(self, user_weights: np.ndarray) -> Tensor:
        """R' diag(user_weights) R, float32 (n, n)."""
        train = self.train_pairs
        starts = np.concatenate([[0], np.cumsum(train.item_degrees)])
        users = train.rows[np.argsort(train.indices, kind="stable")]
        out = np.empty((train.n_items, train.n_items), dtype=np.float32)
        occur_together(starts, users, train.indptr, train.indices, user_weights, out)
        return torch.from_numpy(out)


def invert(matrix: Tensor) -> float:
    """The inverse of a symmetric positive definite (n, n), in its own place.

    Returns:
        Its smallest pivot over the largest: what is below some 1e-6 has lost digits of float32.

    Raises:
        torch.linalg.LinAlgError: it is not positive definite, or not a number.
    """
    by_columns = matrix.T  # as LAPACK wants it: else torch would work on a copy
    wrong = torch.empty((), dtype=torch.int32)
    torch.linalg.cholesky_ex(by_columns, check_errors=True, out=(by_columns, wrong))
    pivots = by_columns.diagonal().square()
    share = float(pivots.min() / pivots.max())
    torch.cholesky_inverse(by_columns, out=by_columns)
    return share


class EASEConfig(ItemWeightsConfig):
    """Attributes:
    l2: weight lambda of the squared weights, in counts of users.
    """

    l2: float = Field(default=500.0, gt=0)


class EASE(ItemWeights):
    """Least squares of R on itself with a zero diagonal (Steck, WWW 2019, Eq 8).

    P = (R'R + l2 I)^-1, W_ij = -P_ij / P_jj for i != j, W_jj = 0.
    """

    Config = EASEConfig

    def solve(self) -> None:
        gram = self._together(np.ones(self.n_users, dtype=np.float32))
        gram.diagonal().add_(self.config.l2)
        if invert(gram) < _LOST:
            logger.warning(
                "ease: items that nearly always occur together make the weights inexact: raise model.l2 "
                "(it is %g)", self.config.l2,
            )  # fmt: skip
        gram /= -gram.diagonal().clone()
        gram.fill_diagonal_(0)
        self.weights = gram


class GFCFConfig(ItemWeightsConfig):
    """Attributes:
    dim: number k of leading singular vectors of the ideal low-pass filter.
    alpha: weight of the low-pass filter beside the linear filter.
    """

    dim: int = Field(default=256, ge=1, le=4096)
    alpha: float = Field(default=0.3, ge=0)


class GFCF(ItemWeights):
    """GF-CF: a linear and an ideal low-pass graph filter (Shen et al., CIKM 2021).

    With S = D_u^-1/2 R D_i^-1/2 and its leading right singular vectors V (n, k),
    W = S'S + alpha D_i^-1/2 V V' D_i^1/2.
    """

    Config = GFCFConfig

    def solve(self) -> None:
        train, generator = self.train_pairs, self.generator
        roots = [
            torch.from_numpy(np.sqrt(degree).astype(np.float32))
            for degree in (train.user_degrees, train.item_degrees)
        ]
        inverse = [torch.where(root > 0, 1 / root, 0) for root in roots]
        _, factors = singular_factors(train, self.config.dim, generator, iterations=16)
        length = factors.norm(dim=0)
        basis = factors * torch.where(length > 0, 1 / length, 0)
        out = self._together((inverse[0] ** 2).numpy())
        out *= inverse[1][:, None]
        out *= inverse[1]
        out.addmm_(self.config.alpha * inverse[1][:, None] * basis, (roots[1][:, None] * basis).T)
        self.weights = out


class IALSConfig(Config):
    """Attributes:
    dim: length of the vectors.
    l2: weight of the squared vectors.
    alpha: weight of an observed pair beside 1 of an unobserved one.
    iterations: alternations between users and items.
    """

    dim: int = Field(default=64, ge=1, le=4096)
    l2: float = Field(default=0.01, ge=0)
    alpha: float = Field(default=10.0, gt=0)
    iterations: int = Field(default=15, ge=1)


class SolvedVectors(Backbone):
    """Vectors (n, width) of users and items that `solve` fills."""

    closed_form = True
    users: Tensor
    items: Tensor

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        super().__init__(config, train, generator)
        self.train_pairs, self.generator = train, generator
        for name, size in (("users", self.n_users), ("items", self.n_items)):
            self.register_buffer(name, torch.zeros(size, self.width(config) or 0))

    def vectors(self, users: Tensor | None = None, items: Tensor | None = None) -> Vectors:
        rows = self.users if users is None else self.users[users]
        columns = self.items if items is None else self.items[items]
        return Vectors(rows, columns, rows, columns)


class IALS(SolvedVectors):
    """Implicit alternating least squares (Hu et al., ICDM 2008), solved by the library `implicit`.

    Needs the extra `als`.
    """

    Config = IALSConfig

    @classmethod
    def check(cls) -> None:
        if find_spec("implicit") is None:
            raise ConfigError("model=ials needs the library implicit: pip install 'ssmrec[als]'")

    def solve(self) -> None:
        self.check()
        from implicit.als import AlternatingLeastSquares
        from implicit.recommender_base import ModelFitError
        from scipy.sparse import csr_matrix
        from threadpoolctl import threadpool_limits

        train, config = self.train_pairs, self.config
        ones = np.ones(len(train), dtype=np.float32)
        pairs = csr_matrix((ones, train.indices, train.indptr), (train.n_users, train.n_items))
        with threadpool_limits(1, "blas"):  # its own threads each call BLAS
            solver = AlternatingLeastSquares(
                factors=config.dim, regularization=config.l2, alpha=config.alpha,
                iterations=config.iterations, num_threads=torch.get_num_threads(), use_gpu=False,
                random_state=int(torch.randint(2**31 - 1, (), generator=self.generator)),
            )  # fmt: skip
            # NaN is in the factors then, for the caller to find
            with suppress(ModelFitError):
                solver.fit(pairs, show_progress=False)
        for mine, found in ((self.users, solver.user_factors), (self.items, solver.item_factors)):
            mine.copy_(torch.from_numpy(np.asarray(found)))
        self.users[train.user_degrees == 0] = 0
        self.items[train.item_degrees == 0] = 0
