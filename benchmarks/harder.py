"""Two harder variants of a data set, for what the papers of some losses claim: noise and a popularity shift.

`noise`: to the training pairs come a fifth as many that mean nothing, each a random training pair's user with
an item drawn evenly; validation and test are as they were. `shift`: of the test pairs of an item at most a
few are kept, at random, so that popular items are no likelier than others; train and validation are as they
were.

    python -m benchmarks.harder runs/harder
    ssmrec compare experiments/noise.yaml
    ssmrec compare experiments/shift.yaml
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import typer

from ssmrec.data import DataConfig, Interactions, Split, prepare

NOISE = 0.2
"""Pairs of noise for each training pair."""

EVEN = 3
"""Test pairs that an item may keep."""


def write(out: Path, source: str = "online-retail", seed: int = 0) -> None:
    """Write OUT/noise and OUT/shift, each with train, valid and test as Parquet."""
    parts = _parts(prepare(DataConfig(source=source), seed))
    generator = np.random.default_rng(seed)
    rows = {name: pairs.frame().select("user", "item") for name, pairs in parts.items()}
    noise = pl.concat([rows["train"], _noise(parts["train"], [*rows.values()], generator)])
    even = rows["test"].filter(_even(parts["test"], generator))
    for name, changed in (("noise", {"train": noise}), ("shift", {"test": even})):
        (out / name).mkdir(parents=True, exist_ok=True)
        for part, frame in {**rows, **changed}.items():
            frame.write_parquet(out / name / f"{part}.parquet")
            print(f"{out / name / part}.parquet: {len(frame):,} pairs")


def _parts(split: Split) -> dict[str, Interactions]:
    assert split.valid is not None and split.test is not None
    return {"train": split.train, "valid": split.valid, "test": split.test}


def _noise(
    train: Interactions, known: list[pl.DataFrame], generator: np.random.Generator
) -> pl.DataFrame:
    """Pairs that are not `known`: users as often as in train, items evenly."""
    n = round(NOISE * len(train))
    users = train.rows[generator.integers(len(train), size=2 * n)]
    items = generator.integers(train.n_items, size=2 * n)
    drawn = pl.DataFrame(
        {"user": train.users.decode(users), "item": train.items.decode(items)}
    ).unique(maintain_order=True)
    for rows in known:
        drawn = drawn.join(rows, on=["user", "item"], how="anti", maintain_order="left")
    return drawn.head(n)


def _even(test: Interactions, generator: np.random.Generator) -> np.ndarray:
    """Which pairs stay where each item keeps at most `EVEN`, bool (n,)."""
    order = generator.permutation(len(test))
    kept = np.zeros(len(test), dtype=bool)
    left = np.full(test.n_items, EVEN)
    for pair in order:
        item = test.indices[pair]
        kept[pair] = left[item] > 0
        left[item] -= 1
    return kept


if __name__ == "__main__":
    typer.run(write)
