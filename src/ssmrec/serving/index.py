"""Approximate search for the items with the highest inner product, in one of three libraries.

The graph is built on the inner product itself (ip-NSW, Morozov & Babenko, NeurIPS 2018): vectors keep
their lengths, so a long item is found where it ranks high. The usual reduction to a metric, one more
number that makes all items equally long, found less in the same libraries (docs/production.md). Scores
are computed again from the vectors, so they are those of exact ranking.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssmrec.config import nearest
from ssmrec.errors import ConfigError, RunError
from ssmrec.models import HistoryRows
from ssmrec.ranking import Choice, Ranker, TopK, top_k
from ssmrec.training.files import replace_together

Array = np.ndarray
KINDS = ("usearch", "faiss", "hnsw")
MODULES = {"usearch": "usearch.index", "faiss": "faiss", "hnsw": "hnswlib"}
BUILD, NEIGHBOURS = 200, 32
"""Breadth of the search while building, and links of a node, in all three libraries."""
MORE = 4
"""Times as many items as wanted are searched; and again, where too few of them may be listed."""


@dataclass(frozen=True)
class Index:
    """A built index.

    Args:
        kind: usearch, faiss or hnsw.
        searcher: `searcher(queries float32 (m, d), n)` gives item indices (m, n), -1 for none.
        write: writes the index to a file.
        size: number of items in it.
        version: of the run it was built from.
    """

    kind: str
    searcher: Callable[[Array, int], Array]
    write: Callable[[str], Any]
    size: int
    version: str = ""

    def top(self, ranker: Ranker, users: Array, choice: Choice) -> TopK:
        """As `Ranker.top`, approximately: candidates from the index, ranked by exact scores.

        Users whose candidates fall out, for they have them or a filter forbids them, are searched for
        again, further. A list may still be shorter than exact ranking's, and is never filled up.
        """
        vectors = _tensor(ranker)[torch.from_numpy(users.astype(np.int64))]
        shape = len(users), min(choice.k, len(ranker.items))
        ids = np.full(shape, -1, dtype=np.int32)
        scores = np.full(shape, -np.inf, dtype=np.float32)
        short, wanted = np.arange(len(users)), min(self.size, MORE * choice.k)
        while len(short) and wanted:
            found = self.searcher(_rows(vectors[short]), wanted)
            for row, candidates in zip(short, found, strict=True):
                best = _best(ranker, users[row], vectors[row], candidates, choice)
                ids[row, : len(best[0])], scores[row, : len(best[0])] = best
            short = short[ids[short, -1] < 0]
            if wanted == self.size:
                break
            wanted = min(self.size, MORE * wanted)
        return TopK(ids, scores)

    def save(self, folder: Path) -> None:
        """Write `index.KIND` and `index.KIND.json` into a folder.

        Raises:
            RunError: it cannot be written; an older index in the folder is as it was.
        """
        file = folder / f"index.{self.kind}"
        told = folder / f"{file.name}.json"
        facts = {"kind": self.kind, "size": self.size, "version": self.version}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            replace_together(
                {
                    file: lambda part: self.write(str(part)),
                    told: lambda part: part.write_text(json.dumps(facts) + "\n"),
                },
                last=told,
            )
        except (OSError, RuntimeError) as error:  # the libraries raise the second
            raise RunError(f"{file}: cannot be written ({error})") from None


def build(ranker: Ranker, kind: str, version: str = "") -> Index:
    """Index the items with training pairs.

    Raises:
        ConfigError: an unknown kind, its library is not installed, or an item-item model.
    """
    module = _module(kind)
    _tensor(ranker)
    vectors = _rows(ranker.items)
    ids = np.flatnonzero(ranker.known_items)
    made = _MAKE[kind](module, vectors[ids], ids)
    return Index(kind, *_USE[kind](made, module), len(ids), version)


def load(folder: Path, ranker: Ranker, kind: str, version: str) -> Index:
    """Read an index back and check that it belongs to the run.

    Raises:
        RunError: there is none, or it is of another run.
    """
    file = folder / f"index.{kind}"
    module = _module(kind)
    try:
        facts = json.loads((folder / f"{file.name}.json").read_text())
        if facts["version"] != version:
            raise RunError(f"{file}: belongs to another run; build it with ssmrec index")
        made = _READ[kind](module, str(file), ranker.items.shape[1], int(facts["size"]))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RunError(f"{file}: cannot be read ({error}); build it with ssmrec index") from None
    return Index(kind, *_USE[kind](made, module), int(facts["size"]), version)


def recall(index: Index, ranker: Ranker, k: int = 20, users: int = 1000, seed: int = 0) -> float:
    """Share of the exact top k that the index finds, over randomly chosen users."""
    known = np.flatnonzero(ranker.train.user_degrees)
    some = np.random.default_rng(seed).choice(known, min(users, len(known)), replace=False)
    choice = ranker.choice(k)
    exact, found = ranker.top(some, choice).ids, index.top(ranker, some, choice).ids
    hits = sum(len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in zip(exact, found, strict=True))
    return hits / max(int((exact >= 0).sum()), 1)


def _tensor(ranker: Ranker) -> torch.Tensor:
    if isinstance(ranker.users, HistoryRows):
        raise ConfigError("an item-item model has no vectors to index: serve it without an index")
    return ranker.users


def _rows(vectors: torch.Tensor) -> Array:
    return np.ascontiguousarray(vectors.detach().cpu().numpy(), dtype=np.float32)


def _best(
    ranker: Ranker, user: int, vector: torch.Tensor, found: Array, choice: Choice
) -> tuple[Array, Array]:
    """Ids and scores of the candidates `found` by exact score, without those that may not be listed."""
    items = np.unique(found[found >= 0])
    items = items[choice.allowed[items]]
    if not choice.include_seen:
        seen = ranker.seen
        mine = seen.indices[seen.indptr[user] : seen.indptr[user + 1]]
        items = np.setdiff1d(items, mine, assume_unique=True)
    if not len(items):
        return np.zeros(0, np.int32), np.zeros(0, np.float32)
    table = ranker.items[torch.from_numpy(items.astype(np.int64))]
    best = top_k(vector[None], table, choice.k)
    return items[best.ids[0]].astype(np.int32), best.scores[0]


def _module(kind: str) -> Any:
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of index {kind!r}{nearest(kind, KINDS)}")
    try:
        return import_module(MODULES[kind])
    except ImportError:
        raise ConfigError(f"--kind {kind} needs its library: pip install 'ssmrec[index]'") from None


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
        return made.knn_query(queries, n)[0].astype(np.int64)

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


_MAKE = {"usearch": _make_usearch, "faiss": _make_faiss, "hnsw": _make_hnsw}
_USE = {"usearch": _use_usearch, "faiss": _use_faiss, "hnsw": _use_hnsw}
_READ = {
    "usearch": _read_usearch,
    "faiss": lambda module, path, dim, size: module.read_index(path),
    "hnsw": _read_hnsw,
}
