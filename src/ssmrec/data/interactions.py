"""The one table: who interacted with what, as contiguous int32 indices in CSR form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from ssmrec.data.vocabulary import Vocabulary
from ssmrec.errors import DataError

Array = np.ndarray
_TEXTS = 1 << 16
"""Ids whose text is held at once."""


class _ByFingerprint:
    """Equal are those of equal fingerprint: of the same content, whatever their `counts`."""

    fingerprint: Any

    def __eq__(self, other: object) -> bool:
        same_kind = isinstance(other, type(self))
        return self is other or (same_kind and self.fingerprint == other.fingerprint)

    def __hash__(self) -> int:
        return hash(self.fingerprint)


@dataclass(frozen=True, eq=False, repr=False)
class Interactions(_ByFingerprint):
    """Distinct (user, item) pairs, sorted by user and then item; equal where the `fingerprint` is.

    Args:
        users, items: the vocabularies; indices refer to them.
        indptr: int64 (n_users + 1,), row bounds of each user.
        indices: int32 (n,), item indices, ascending within a user.
        timestamps: int64 (n,) seconds, or None.
        weights: float32 (n,), above 0 and finite, or None.
        counts: what happened on the way here (rows read, dropped, merged ...).
    """

    users: Vocabulary
    items: Vocabulary
    indptr: Array
    indices: Array
    timestamps: Array | None = None
    weights: Array | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_pairs(
        cls,
        user: Array,
        item: Array,
        users: Vocabulary,
        items: Vocabulary,
        timestamps: Array | None = None,
        weights: Array | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> Interactions:
        """Build from index pairs in any order; a repeated pair is an error (merge it before).

        Raises:
            DataError: a pair is repeated, an index is not in its vocabulary, columns differ in length, or
                a weight is not above 0 and finite (as float32).
        """
        sizes = len(users), len(items)
        _check_pairs(user, item, sizes, timestamps=timestamps, weights=weights)
        key = np.asarray(user, dtype=np.int64) * max(len(items), 1) + np.asarray(item, np.int64)
        order = slice(None)
        if bool((key[1:] <= key[:-1]).any()):  # else sorted already, as the parts of a table are
            order = np.argsort(key, kind="stable")
            key = key[order]
            if bool((key[1:] == key[:-1]).any()):
                raise DataError("repeated (user, item) pairs: merge duplicates before")
        del key
        indptr = np.zeros(len(users) + 1, dtype=np.int64)
        np.cumsum(np.bincount(user, minlength=len(users)), out=indptr[1:])
        if weights is not None:
            weights = np.array(np.asarray(weights)[order], np.float32)
            if len(weights) and not (weights.min() > 0 and weights.max() < np.inf):
                raise DataError(
                    "weights must be above 0 and finite: leave out pairs that have none"
                )
        return cls(
            users=users,
            items=items,
            indptr=indptr,
            indices=np.array(np.asarray(item)[order], dtype=np.int32),
            timestamps=None
            if timestamps is None
            else np.array(np.asarray(timestamps)[order], np.int64),
            weights=weights,
            counts=dict(counts or {}),
        )

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        size = f"{self.n_users:,} users x {self.n_items:,} items, {len(self):,} pairs"
        extras = [n for n in ("timestamps", "weights") if getattr(self, n) is not None]
        return f"Interactions({', '.join([size, *extras])})"

    @property
    def n_users(self) -> int:
        return len(self.users)

    @property
    def n_items(self) -> int:
        return len(self.items)

    @cached_property
    def rows(self) -> Array:
        """User index of every pair, int32 (n,)."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), self.user_degrees)

    @cached_property
    def user_degrees(self) -> Array:
        """Number of items of each user, int64 (n_users,)."""
        return np.diff(self.indptr)

    @cached_property
    def item_degrees(self) -> Array:
        """Number of users of each item (popularity), int64 (n_items,)."""
        return np.bincount(self.indices, minlength=self.n_items)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over ids, pairs, timestamps and weights: equal data give equal fingerprints."""
        digest = hashlib.sha256()
        for vocabulary in (self.users, self.items):
            digest.update(str(vocabulary.ids.dtype).encode())
            for start in range(0, len(vocabulary), _TEXTS):
                texts = vocabulary.ids[start : start + _TEXTS].cast(pl.String).to_list()
                digest.update(("\n" * (start > 0) + "\n".join(texts)).encode())
        for array in (self.indptr, self.indices, self.timestamps, self.weights):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def take(self, keep: Array, counts: Mapping[str, int] | None = None) -> Interactions:
        """The pairs where `keep` (bool (n,)) holds, over the same vocabularies."""
        return Interactions(
            users=self.users,
            items=self.items,
            indptr=np.concatenate(([0], np.cumsum(keep, dtype=np.int64)))[self.indptr],
            indices=self.indices[keep],
            timestamps=None if self.timestamps is None else self.timestamps[keep],
            weights=None if self.weights is None else self.weights[keep],
            counts=dict(counts or {}),
        )

    def joined(self, other: Interactions) -> Interactions:
        """The pairs of both, which are over the same vocabularies; see `merge`."""
        return Interactions.from_pairs(
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.indices, other.indices]),
            self.users,
            self.items,
            _joined(self.timestamps, other.timestamps, "timestamps"),
            _joined(self.weights, other.weights, "weights"),
        )

    def frame(self) -> pl.DataFrame:
        """The pairs with external ids: columns user, item and, if known, timestamp, weight."""
        columns: dict[str, Any] = {
            "user": self.users.decode(self.rows),
            "item": self.items.decode(self.indices),
        }
        if self.timestamps is not None:
            columns["timestamp"] = self.timestamps
        if self.weights is not None:
            columns["weight"] = self.weights
        return pl.DataFrame(columns)


def _check_pairs(user: Array, item: Array, sizes: tuple[int, int], **more: Array | None) -> None:
    """Refuse columns that are not of one length, and indices that are in no vocabulary."""
    shape = np.shape(user)[:1]
    for name, column in {"user": user, "item": item, **more}.items():
        if column is not None and np.shape(column) != shape:
            raise DataError(
                f"{name} must have one value for each of {len(user)} pairs, not {np.shape(column)}"
            )
    for name, column, size in zip(("user", "item"), (user, item), sizes, strict=True):
        if len(column) and not (np.min(column) >= 0 and np.max(column) < size):
            raise DataError(
                f"{name} must hold indices 0 to {size - 1}, not {np.min(column)} to {np.max(column)}"
            )


def _joined(a: Array | None, b: Array | None, what: str) -> Array | None:
    if a is None and b is None:
        return None
    if a is None or b is None:
        raise DataError(f"cannot merge: only one of the two has {what}")
    return np.concatenate([a, b])


@dataclass(frozen=True, eq=False, repr=False)
class Split(_ByFingerprint):
    """Train, validation and test pairs over the same vocabularies; equal where the `fingerprint` is.

    Graph, popularity and negatives come from `train` only; `valid` chooses; `test` is looked at once.
    """

    train: Interactions
    valid: Interactions | None
    test: Interactions | None
    strategy: str
    counts: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def known(self) -> Interactions:
        """Train and validation pairs together."""
        return self.train if self.valid is None else self.train.joined(self.valid)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the fingerprints of all parts."""
        parts = (self.train, self.valid, self.test)
        text = " ".join("-" if part is None else part.fingerprint for part in parts)
        return hashlib.sha256(text.encode()).hexdigest()

    def __repr__(self) -> str:
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        sizes = [f"{name} {len(part):,}" for name, part in parts.items() if part is not None]
        size = f"{self.train.n_users:,} users x {self.train.n_items:,} items"
        return f"Split({self.strategy}: {size}, {', '.join(sizes)})"
