"""The libraries that build and search an index of inner products: usearch, faiss, hnswlib.

To add one: a line in `MODULES`, `MAKE`, `USE` and `READ`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ssmrec.config import nearest
from ssmrec.errors import ConfigError

Array = np.ndarray
MODULES = {"usearch": "usearch.index", "faiss": "faiss", "hnsw": "hnswlib"}
KINDS = tuple(MODULES)
BUILD, NEIGHBOURS = 200, 32
"""Breadth of the search while building, and links of a node, in all of them."""


def library(kind: str) -> Any:
    """The module of a kind of index.

    Raises:
        ConfigError: an unknown kind, or its library is not installed.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of index {kind!r}{nearest(kind, KINDS)}")
    try:
        return import_module(MODULES[kind])
    except ImportError:
        raise ConfigError(
            f"an index by {kind} needs its library: pip install 'ssmrec[index]'"
        ) from None


def _make_usearch(module: Any, vectors: Array, ids: Array) -> Any:
    made = _empty_usearch(module, vectors.shape[1])
    made.add(ids.astype(np.uint64), vectors)
    return made


def _empty_usearch(module: Any, dim: int) -> Any:
    return module.Index(
        ndim=dim, metric="ip", dtype="f32", connectivity=NEIGHBOURS, expansion_add=BUILD,
        expansion_search=BUILD,
    )  # fmt: skip


def _read_usearch(module: Any, path: str, dim: int, size: int) -> Any:
    made = _empty_usearch(module, dim)
    made.load(path)
    return made


def _use_usearch(made: Any, module: Any) -> tuple[Callable[[Array, int], Array], Callable]:
    def search(queries: Array, n: int) -> Array:
        made.expansion_search = max(BUILD, n)
        keys = [np.asarray(made.search(row, n).keys, dtype=np.int64) for row in queries]
        return _padded(keys, n)

    return search, made.save


def _make_faiss(module: Any, vectors: Array, ids: Array) -> Any:
    made = module.IndexIDMap(
        module.IndexHNSWFlat(vectors.shape[1], NEIGHBOURS, module.METRIC_INNER_PRODUCT)
    )
    module.downcast_index(made.index).hnsw.efConstruction = BUILD
    made.add_with_ids(vectors, ids.astype(np.int64))
    return made


def _use_faiss(made: Any, module: Any) -> tuple[Callable[[Array, int], Array], Callable]:
    def search(queries: Array, n: int) -> Array:
        module.downcast_index(made.index).hnsw.efSearch = max(BUILD, n)
        return made.search(queries, n)[1]

    return search, lambda path: module.write_index(made, path)


def _make_hnsw(module: Any, vectors: Array, ids: Array) -> Any:
    made = module.Index("ip", vectors.shape[1])
    made.init_index(max(len(ids), 1), M=NEIGHBOURS, ef_construction=BUILD, random_seed=0)
    made.add_items(vectors, ids)
    return made


def _read_hnsw(module: Any, path: str, dim: int, size: int) -> Any:
    made = module.Index("ip", dim)
    made.load_index(path, max(size, 1))
    return made


def _use_hnsw(made: Any, module: Any) -> tuple[Callable[[Array, int], Array], Callable]:
    def search(queries: Array, n: int) -> Array:
        made.set_ef(max(BUILD, n))
        try:
            return made.knn_query(queries, n)[0].astype(np.int64)
        except RuntimeError:  # its graph leads a query to fewer than n items
            return np.full((len(queries), n), -1, dtype=np.int64)

    def write(path: str) -> None:
        made.save_index(path)
        written, whole = Path(path).stat().st_size, made.index_file_size()
        if written < whole:  # hnswlib does not tell of a full disk
            raise OSError(f"{written:,} of {whole:,} bytes were written: is the disk full?")

    return search, write


def _padded(rows: list[Array], n: int) -> Array:
    out = np.full((len(rows), n), -1, dtype=np.int64)
    for row, keys in zip(out, rows, strict=True):
        row[: len(keys)] = keys
    return out


MAKE = {"usearch": _make_usearch, "faiss": _make_faiss, "hnsw": _make_hnsw}
USE = {"usearch": _use_usearch, "faiss": _use_faiss, "hnsw": _use_hnsw}
READ = {
    "usearch": _read_usearch,
    "faiss": lambda module, path, dim, size: module.read_index(path),
    "hnsw": _read_hnsw,
}
