"""What stands in the place of user vectors where scores are not their products: users' histories."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ssmrec.data import Interactions
from ssmrec.kernels.history import sum_rows
from ssmrec.kernels.products import in_panels
from ssmrec.kernels.topk import one_caller

Array = np.ndarray


class ScoringRows(ABC):
    """Rows of users that score items by themselves, in the place of a tensor of user vectors (m, d).

    They have what ranking asks of user vectors: a length, a shape, and rows by slice or by index.
    """

    ndim = 2
    device = torch.device("cpu")

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def shape(self) -> torch.Size: ...

    @abstractmethod
    def __getitem__(self, rows: slice | Tensor | Array) -> ScoringRows: ...

    @abstractmethod
    def scores(self, items: Tensor) -> Tensor:
        """Scores (m, n) of items by their vectors (n, d)."""

    @abstractmethod
    def scores_of(self, items: Tensor, some: Tensor) -> Tensor:
        """Scores (m, k) of `some` items (k,), by the vectors (n, d) of all."""

    def detach(self) -> ScoringRows:
        return self

    def float(self) -> ScoringRows:
        return self


@dataclass(frozen=True, eq=False)
class HistoryRows(ScoringRows):
    """Binary rows (m, n) of the items users have.

    Dense rows would take m * n numbers, and their product with item vectors m * n * n steps in place of
    (pairs) * n.

    Args:
        indptr: int64 (m + 1,); indices: int32, the items of each row.
        n_items: n.
    """

    indptr: Array
    indices: Array
    n_items: int

    @classmethod
    def of(cls, train: Interactions) -> HistoryRows:
        """The rows of all users of `train`."""
        return cls(train.indptr, train.indices, train.n_items)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), self.n_items))

    def __getitem__(self, rows: slice | Tensor | Array) -> HistoryRows:
        index = np.arange(len(self))[rows if isinstance(rows, slice) else np.asarray(rows)]
        starts, counts = self.indptr[index], np.diff(self.indptr)[index]
        indptr = np.concatenate([[0], np.cumsum(counts)])
        within = np.arange(indptr[-1]) - np.repeat(indptr[:-1], counts)
        return HistoryRows(indptr, self.indices[np.repeat(starts, counts) + within], self.n_items)

    def scores(self, items: Tensor) -> Tensor:
        """The product with item vectors (k, n): (m, k). Fast where `items.T` is contiguous."""
        table = np.ascontiguousarray(items.detach().T.numpy())
        out = np.empty((len(self), len(items)), dtype=table.dtype)
        with one_caller:
            sum_rows(self.indptr, self.indices, table, out)
        return torch.from_numpy(out)

    def scores_of(self, items: Tensor, some: Tensor) -> Tensor:
        return self.scores(items[some])

    def to_dense(self) -> Tensor:
        """The rows as a float32 tensor (m, n)."""
        dense = torch.zeros(self.shape)
        row = np.repeat(np.arange(len(self)), np.diff(self.indptr))
        dense[torch.from_numpy(row), torch.from_numpy(self.indices.astype(np.int64))] = 1
        return dense


@dataclass(frozen=True, eq=False)
class Scaled:
    """Scores by `rows` and their own item vectors (n, d'), times a factor for each user, float32 (m,)."""

    rows: ScoringRows
    items: Tensor
    factors: Tensor

    def __getitem__(self, rows: slice | Tensor | Array) -> Scaled:
        return replace(self, rows=self.rows[rows], factors=self.factors[rows])

    def scores(self) -> Tensor:
        return self.rows.scores(self.items).mul_(self.factors[:, None])


@dataclass(frozen=True, eq=False)
class SummedRows(ScoringRows):
    """User vectors with the scores of item-item models beside their products:
    score(u, i) = x_u . y_i + the scores of `beside`.

    Args:
        vectors: (m, d), where d may be 0.
        beside: of the same users, and all n items.
    """

    vectors: Tensor
    beside: Sequence[Scaled]

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def shape(self) -> torch.Size:
        return self.vectors.shape

    def __getitem__(self, rows: slice | Tensor | Array) -> SummedRows:
        index = rows if isinstance(rows, slice) else torch.as_tensor(rows)
        return SummedRows(self.vectors[index], [part[index] for part in self.beside])

    def of_items(self, rows: HistoryRows) -> SummedRows:
        """Users that have nothing but the items of `rows`, for the scores of item-item models alone."""
        beside = [
            Scaled(rows, part.items, part.factors.mean().expand(len(rows))) for part in self.beside
        ]
        return SummedRows(torch.zeros(len(rows), self.vectors.shape[1]), beside)

    def scores(self, items: Tensor) -> Tensor:
        """Of all n items, by their vectors (n, d)."""
        total = in_panels(self.vectors, items.detach())
        for part in self.beside:
            total += part.scores()
        return total

    def scores_of(self, items: Tensor, some: Tensor) -> Tensor:
        beside = [replace(part, items=part.items[some]) for part in self.beside]
        return SummedRows(self.vectors, beside).scores(items[some])
