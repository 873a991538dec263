"""User vectors that are the users' histories: sparse rows which score without being made dense."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssmrec.data import Interactions
from ssmrec.kernels.history import sum_rows
from ssmrec.kernels.topk import one_caller

Array = np.ndarray


@dataclass(frozen=True)
class HistoryRows:
    """Binary rows (m, n) of the items users have, in the place of a dense tensor of user vectors.

    Supports what ranking asks of user vectors: a length, a shape, rows by slice or by index, and the
    product with item vectors. Dense rows would take m * n numbers, and the product m * n * n steps
    in place of (pairs) * n.

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

    @property
    def ndim(self) -> int:
        return 2

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def detach(self) -> HistoryRows:
        return self

    def float(self) -> HistoryRows:
        return self

    def __getitem__(self, rows: slice | Tensor | Array) -> HistoryRows:
        index = np.arange(len(self))[rows if isinstance(rows, slice) else np.asarray(rows)]
        starts, counts = self.indptr[index], np.diff(self.indptr)[index]
        indptr = np.concatenate([[0], np.cumsum(counts)])
        within = np.arange(indptr[-1]) - np.repeat(indptr[:-1], counts)
        return HistoryRows(indptr, self.indices[np.repeat(starts, counts) + within], self.n_items)

    def scores(self, items: Tensor) -> Tensor:
        """The product with item vectors (k, n): (m, k). Fast when `items.T` is contiguous."""
        table = np.ascontiguousarray(items.detach().T.numpy())
        out = np.empty((len(self), len(items)), dtype=table.dtype)
        with one_caller:
            sum_rows(self.indptr, self.indices, table, out)
        return torch.from_numpy(out)

    def to_dense(self) -> Tensor:
        """The rows as a float32 tensor (m, n)."""
        dense = torch.zeros(self.shape)
        row = np.repeat(np.arange(len(self)), np.diff(self.indptr))
        dense[torch.from_numpy(row), torch.from_numpy(self.indices.astype(np.int64))] = 1
        return dense
