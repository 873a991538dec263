"""Negatives a second, none of them a known positive of its row's user: ours against two numpy ways.

`redraw` is how RecBole samples, written from its description: draw for all rows at once, look each
draw up in the set of its user's items, draw again where it is there. `loop` is the plain way: row by
row, draw and remove what `np.isin` finds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Settings, compared, interleaved, published
from ssmrec.data import Interactions
from ssmrec.negatives import SAMPLERS, Batch, Sampler

Array = np.ndarray
Draw = Callable[[np.random.Generator, int], Array]


def run(settings: Settings) -> dict[str, Any]:
    """Every sampler and number of negatives."""
    source = "online-retail" if settings.small else "yelp2018"
    train, _ = published(source)
    batch, repeats = (256, 3) if settings.small else (2048, 15)
    numbers = (1, 16) if settings.small else (1, 16, 64)
    order = np.random.default_rng(settings.seed).permutation(len(train))[:batch]
    users, items = train.rows[order].astype(np.int64), train.indices[order].astype(np.int64)
    side = _Sides(train, users, items, settings.seed)
    found = []
    for name in ("uniform", "popularity"):
        for n in numbers:
            found.append(side.own(name, n, repeats))
        for n in (numbers[-1], 64 if settings.small else 1024):
            found.append(side.shared(name, n, repeats))
    return {"data": source, "batch": batch, "cases": found}


class _Sides:
    def __init__(self, train: Interactions, users: Array, items: Array, seed: int) -> None:
        self.train, self.users, self.seed = train, users, seed
        self.batch = Batch(torch.from_numpy(users), torch.from_numpy(items))
        parts = np.split(train.indices, train.indptr[1:-1])
        self.histories = parts
        self.sets = [set(part.tolist()) for part in parts]

    def own(self, name: str, n: int, repeats: int) -> dict[str, Any]:
        """Own negatives of each row: three ways."""
        sampler = self._sampler(name, n, shared=False)
        draw = self._draw(name)
        generators = [np.random.default_rng([self.seed, part]) for part in range(3)]
        calls = {
            "ours": lambda _: _ids(sampler, self.batch, generators[0]),
            "redraw": lambda _: redraw(draw, self.users, self.sets, n, generators[1]),
            "loop": lambda _: loop(draw, self.users, self.histories, n, generators[2]),
        }
        known = {side: self._known(call(0)) for side, call in calls.items()}
        found = compared(interleaved(calls, repeats))
        return self._case(name, "own", n, known, found)

    def shared(self, name: str, n: int, repeats: int) -> dict[str, Any]:
        """One set for the whole batch with the known pairs masked: B * n candidates at once."""
        sampler = self._sampler(name, n, shared=True)
        draw = self._draw(name)
        generators = [np.random.default_rng([self.seed, part]) for part in range(2)]
        calls = {
            "ours": lambda _: sampler.draw(self.batch, generators[0]),
            "loop": lambda _: masked_loop(draw, self.users, self.histories, n, generators[1]),
        }
        mask = sampler.draw(self.batch, np.random.default_rng(9))
        assert mask.ids is not None
        truth = np.stack([np.isin(mask.ids.numpy(), self.histories[u]) for u in self.users])
        dense = mask.mask(truth.shape)
        wrong = int((truth != (dense.numpy() if dense is not None else False)).sum())
        found = compared(interleaved(calls, repeats))
        return self._case(name, "shared", n, {"ours": wrong}, found)

    def _case(
        self, name: str, kind: str, n: int, known: dict[str, int], found: dict[str, Any]
    ) -> dict[str, Any]:
        drawn = len(self.users) * n
        rates = {side: drawn / facts["median"] for side, facts in found["seconds"].items()}
        return {
            "sampler": name, "kind": kind, "n": n, "negatives_per_second": rates,
            "known_positives": known, **found,
        }  # fmt: skip

    def _sampler(self, name: str, n: int, shared: bool) -> Sampler:
        cls = SAMPLERS[name]
        return cls(cls.Config(n=n, shared=shared), self.train)  # type: ignore[call-arg]

    def _draw(self, name: str) -> Draw:
        if name == "uniform":
            return lambda generator, size: generator.integers(self.train.n_items, size=size)
        cumulative = np.cumsum(self.train.item_degrees / len(self.train))
        cumulative[-1] = 1.0
        return lambda generator, size: np.searchsorted(cumulative, generator.random(size), "right")

    def _known(self, ids: Array) -> int:
        """Drawn items that the row's user has: must be 0."""
        return sum(
            int(np.isin(row, self.histories[user]).sum())
            for user, row in zip(self.users, ids, strict=True)
        )


def _ids(sampler: Sampler, batch: Batch, generator: np.random.Generator) -> Array:
    ids = sampler.draw(batch, generator).ids
    assert ids is not None
    return ids.numpy()


def redraw(
    draw: Draw, users: Array, sets: list[set[int]], n: int, generator: np.random.Generator
) -> Array:
    """All rows at once; draws found in the user's set are drawn again until none is left."""
    owners = np.repeat(users, n)
    found = draw(generator, len(owners))
    doubtful = np.arange(len(owners))
    while len(doubtful):
        known = [item in sets[owner] for owner, item in zip(owners[doubtful], found[doubtful])]  # noqa: B905
        doubtful = doubtful[np.array(known)]
        found[doubtful] = draw(generator, len(doubtful))
    return found.reshape(len(users), n)


def loop(
    draw: Draw, users: Array, histories: list[Array], n: int, generator: np.random.Generator
) -> Array:
    """Row by row: draw, drop what the user has, draw more until n are left."""
    out = np.empty((len(users), n), dtype=np.int64)
    for row, user in enumerate(users):
        filled = 0
        while filled < n:
            some = draw(generator, n - filled)
            some = some[~np.isin(some, histories[user])]
            out[row, filled : filled + len(some)] = some
            filled += len(some)
    return out


def masked_loop(
    draw: Draw, users: Array, histories: list[Array], n: int, generator: np.random.Generator
) -> Array:
    """One shared draw, and row by row which of it the user has: bool (B, n)."""
    ids = draw(generator, n)
    return np.stack([np.isin(ids, histories[user]) for user in users])
