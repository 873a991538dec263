"""Approximate search for the items with the highest inner product, in one of three libraries.

The graph is built on the inner product itself (ip-NSW, Morozov & Babenko, NeurIPS 2018): vectors keep
their lengths, so a long item is found where it ranks high. The usual reduction to a metric, one more
number that makes all items equally long, found less in the same libraries (docs/production.md). Scores
are computed again from the vectors, so they are those of exact ranking.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssmrec.config import nearest
from ssmrec.errors import ConfigError, RunError
from ssmrec.models import ScoringRows
from ssmrec.ranking import Choice, Ranker, TopK, top_k
from ssmrec.serving.libraries import KINDS, MAKE, READ, USE, library
from ssmrec.storage.files import assert_regular, part_of, replace_together

Array = np.ndarray
MORE = 4
"""Times as many items as wanted are searched; and again, where too few of them may be listed."""
_SHARE = 1 / 64
"""Of the items; to search for more of them takes longer than to rank them all."""


@dataclass(frozen=True, eq=False)
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
        again, further, and at last ranked exactly: no list is shorter than that of exact ranking.
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
            wanted *= MORE
            if wanted > _SHARE * self.size:
                break
        if len(short):
            exact = ranker.top(users[short], choice)
            ids[short], scores[short] = exact.ids, exact.scores
        return TopK(ids, scores)

    def save(self, folder: str | Path) -> None:
        """Write `index.KIND` and `index.KIND.json` into a folder.

        Raises:
            RunError: it cannot be written; an older index in the folder is as it was.
        """
        file = Path(folder) / f"index.{self.kind}"
        told = facts_of(file)
        facts = {"kind": self.kind, "size": self.size, "version": self.version}

        def tell(part: Path) -> None:
            whole = {**facts, "sha256": _digest(part_of(file), facts)}
            part.write_text(json.dumps(whole) + "\n")

        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_together({file: lambda part: self.write(str(part)), told: tell}, last=told)
        except (OSError, RuntimeError) as error:  # the libraries raise the second
            reason = getattr(error, "strerror", None) or error
            raise RunError(f"{file}: cannot be written ({reason})") from None


def build(ranker: Ranker, kind: str, version: str = "") -> Index:
    """Index the items with training pairs.

    Raises:
        ConfigError: an unknown kind, its library is not installed, or an item-item model.
    """
    module = library(kind)
    _tensor(ranker)
    vectors = _rows(ranker.items)
    ids = np.flatnonzero(ranker.known_items)
    made = MAKE[kind](module, vectors[ids], ids)
    return Index(kind, *USE[kind](made, module), len(ids), version)


def find(asked: str, run: str | Path) -> Path:
    """The file of the index that is asked for.

    Args:
        asked: a kind, which is the run's own index, or a file or folder that `save` wrote; of the two
            files either.
        run: the run's folder.

    Raises:
        RunError: there is no such file or folder, or the folder holds no index, or several.
    """
    if asked in KINDS:
        return Path(run) / f"index.{asked}"
    place = Path(asked)
    if not place.exists():
        raise RunError(
            f"index {asked}: no such file or folder, nor a kind of index{nearest(asked, KINDS)}"
        )
    if not place.is_dir():
        beside = place.suffix == ".json" and not facts_of(place).exists()
        return place.with_suffix("") if beside else place
    found = [file for kind in KINDS if (file := place / f"index.{kind}").exists()]
    if len(found) != 1:
        what = "several; name the file of one" if found else "none; build one with ssmrec index"
        raise RunError(f"index {place}: the folder holds {what}")
    return found[0]


def facts_of(file: Path) -> Path:
    """What tells of which run and kind an index is; it lies beside it."""
    return file.with_name(f"{file.name}.json")


def load(file: str | Path, ranker: Ranker, version: str) -> Index:
    """Read an index back and check that it belongs to the run.

    Raises:
        RunError: there is none, it is of another run, or not as it was written.
        ConfigError: its library is not installed.
    """
    file = Path(file)
    try:
        for path in (file, facts_of(file)):
            assert_regular(path)
        facts = dict(json.loads(facts_of(file).read_text()))
        digest = facts.pop("sha256")
        kind, size = facts["kind"], facts["size"]
        if facts["version"] != version:
            raise RunError(f"{file}: belongs to another run; build it with ssmrec index")
        if digest != _digest(file, facts):  # a library would read it, or end the process
            raise RunError(f"{file}: not as it was written; build it with ssmrec index")
        made = READ[kind](library(kind), str(file), ranker.items.shape[1], size)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise RunError(f"{file}: cannot be read ({error}); build it with ssmrec index") from None
    return Index(kind, *USE[kind](made, library(kind)), size, version)


def recall(index: Index, ranker: Ranker, k: int = 20, users: int = 1000, seed: int = 0) -> float:
    """Share of the exact top k that the index finds, over randomly chosen users."""
    known = np.flatnonzero(ranker.train.user_degrees)
    some = np.random.default_rng(seed).choice(known, min(users, len(known)), replace=False)
    choice = ranker.choice(k)
    exact, found = ranker.top(some, choice).ids, index.top(ranker, some, choice).ids
    hits = sum(len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in zip(exact, found, strict=True))
    return hits / max(int((exact >= 0).sum()), 1)


def _tensor(ranker: Ranker) -> torch.Tensor:
    if isinstance(ranker.users, ScoringRows):
        raise ConfigError(
            "an item-item model, or a blend with one, has no vectors to index: serve it without an index"
        )
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


def _digest(file: Path, facts: dict[str, Any]) -> str:
    """Over an index and what tells of it."""
    with open(file, "rb") as content:
        digest = hashlib.file_digest(content, "sha256")
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()
