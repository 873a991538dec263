"""Train, validation and test from one table, with exact counts for every user."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ssmrec.config import build
from ssmrec.data.align import check_pairs, same_ids
from ssmrec.data.config import SeedConfig, SplitConfig
from ssmrec.data.interactions import Array, Interactions, Split
from ssmrec.errors import ConfigError, DataError

PARTS = ("train", "valid", "test")

log = logging.getLogger(__name__)

# Keeps the split's random numbers apart from those of other uses of the same seed.
STREAM = 0x5E17
FEWEST = 3  # rows of a user that gives 1 when the share gives nobody any
_FAR = 1.5  # times the share that was asked for, from which on a cut by time is told
ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996 and means 29
UNITS = {"nanoseconds": 10**9, "microseconds": 10**6, "milliseconds": 10**3}
LATEST = 1e11  # as seconds this would be the year 5138


def split(
    interactions: Interactions,
    strategy: str = "auto",
    test: float = 0.2,
    valid: float = 0.1,
    last_k: int = 1,
    cut: str | float | None = None,
    seed: int = 0,
    ties: str = "auto",
) -> Split:
    """Split into train, validation and test over the same vocabularies.

    Per user, test gets floor(test * n) of the n rows, then valid floor(valid * rest) of the rest;
    a user with few rows stays in train (counted as `users_without_test`, `users_without_valid`).
    Where that leaves a part without any row, each user with 3 rows or more gives it 1 (counted as
    `test_minimum_rows`, `valid_minimum_rows`), so that small shops get a validation part too.
    `temporal`, `last`: rows of a user are ordered by timestamp, those of one timestamp in an order drawn
    once for all seeds, and the latest are held out; users whose rows on both sides of the cut are of one
    timestamp are counted as `test_cut_in_ties`. `time`: every row at or after the cut is test, equal
    timestamps stay together.

    Args:
        interactions: all rows.
        strategy: auto, random, temporal, last or time; see `SplitConfig`.
        test, valid: shares; 0 gives no such part.
        last_k: rows per user for `last`.
        cut: ISO date (UTC if it names no zone), seconds or quantile for `time`.
        seed: decides the random split; the others are the same for all seeds.
        ties: `item`: rows of a user with one timestamp by item index, not in the order drawn.

    Raises:
        ConfigError: a setting is out of range.
        DataError: no timestamps for a strategy that needs them, a part would be empty, or no
            `Interactions`.
    """
    check_pairs(interactions, "interactions")
    given = {"strategy": strategy, "test": test, "valid": valid, "last_k": last_k, "cut": cut,
             "ties": ties}  # fmt: skip
    return split_by(interactions, build(SplitConfig, given, "data.split"), seed)


def split_by(interactions: Interactions, config: SplitConfig, seed: int) -> Split:
    """As `split`, with the settings as one object."""
    strategy = config.strategy
    if strategy == "auto":
        strategy = "temporal" if interactions.timestamps is not None else "random"
    if strategy == "given":
        raise ConfigError(
            "data.split.strategy=given needs files: data.test, or a folder with test.*"
        )
    random = generator(seed)
    counts = dict(interactions.counts)
    train, test = interactions, None
    if config.test > 0:
        held = held_out(interactions, strategy, config.test, config, random, config.cut, counts)
        train, test = interactions.take(~held), interactions.take(held)
    train, valid = carve(train, strategy, config, random, counts)
    return counted(train, valid, test, strategy, counts)


def generator(seed: Any) -> np.random.Generator:
    """What decides random splits.

    Raises:
        ConfigError: `seed` is no whole number from 0 to 2^63 - 1.
    """
    plain = seed.item() if isinstance(seed, np.generic) else seed
    return np.random.default_rng([build(SeedConfig, {"seed": plain}).seed, STREAM])


def carve(
    train: Interactions,
    strategy: str,
    config: SplitConfig,
    generator: np.random.Generator,
    counts: dict[str, int],
) -> tuple[Interactions, Interactions | None]:
    """Take the validation part out of train in the manner of the strategy; None if valid is 0."""
    if config.valid == 0:
        return train, None
    if strategy == "given":
        strategy = "random" if train.timestamps is None else "temporal"
        if config.ties == "auto":
            config = config.model_copy(update={"ties": "item"})
    held = held_out(train, strategy, config.valid, config, generator, None, counts, "valid")
    return train.take(~held), train.take(held)


def held_out(
    data: Interactions,
    strategy: str,
    share: float,
    config: SplitConfig,
    generator: np.random.Generator,
    cut: str | float | None,
    counts: dict[str, int],
    part: str = "test",
) -> Array:
    """Which rows go to the held-out part, bool (n,); a use of `FEWEST` is added to `counts`."""
    ties = "random" if config.ties == "auto" else config.ties
    if strategy != "random" and data.timestamps is None:
        raise DataError(
            f"data.split.strategy={strategy} needs timestamps; set data.timestamp=..., or "
            "data.split.strategy=random"
        )
    if len(data) == 0:
        raise DataError(f"no {part} rows: there is nothing to split")
    if strategy == "time":
        held = _from_cut(data, 1 - share if cut is None else cut, part)
        if cut is None and (found := float(held.mean())) > _FAR * share:
            log.warning("data.split.%s=%s: %.0f %% of the rows are held out, as many have the timestamp of "
                        "the cut%s", part, share, 100 * found,
                        "; data.split.cut sets another" * (part == "test"))  # fmt: skip
    else:
        sizes = data.user_degrees
        if strategy == "last":
            take = np.where(sizes > config.last_k, config.last_k, 0)
        else:
            take = np.floor(share * sizes + ROUNDING).astype(np.int64)
            if not take.any() and (sizes >= FEWEST).any():
                take = (sizes >= FEWEST).astype(np.int64)
                counts[f"{part}_minimum_rows"] = int(take.sum())
                log.info("data.split.%s=%s of no user's rows is a whole row: 1 row of each of the "
                         "%d users with %d or more", part, share, take.sum(), FEWEST)  # fmt: skip
        key = generator.permutation(len(data)) if strategy == "random" else data.timestamps
        order = _ordered(data, key := np.asarray(key))
        if len(tied := _cut_in_ties(data, key, order, take)):
            counts[f"{part}_cut_in_ties"] = len(tied)
            if ties != "item":
                _draw_ties(data, key, order, tied)
        held = np.zeros(len(data), dtype=bool)
        held[order] = data.indptr[1:][data.rows] - np.arange(len(data)) <= take[data.rows]
    if not held.any():
        raise DataError(_nothing(part, strategy, share, data))
    return held


def _drawn_once(count: int) -> Array:
    """0 to count - 1 in an order that no seed changes, so that runs of several seeds share their split."""
    return np.random.default_rng(STREAM).permutation(count)


def _ordered(data: Interactions, key: Array) -> Array:
    """Rows by user and key; those of one key by item index.

    A stable sort, which is fast on rows that lie by user already, and slow on others.
    """
    if int(key.max()) - int(key.min()) >= np.iinfo(np.int64).max // data.n_users:
        key = np.unique(key, return_inverse=True)[1]
    users, key = data.rows.astype(np.int64), key - key.min()
    # One sort over user and key together is several times faster than np.lexsort.
    return np.argsort(users * (int(key.max()) + 1) + key, kind="stable")


def _cut_in_ties(data: Interactions, key: Array, order: Array, take: Array) -> Array:
    """Where the held-out rows of a user begin in `order`, if that row and the one before have one key."""
    cut = np.flatnonzero((take > 0) & (take < data.user_degrees))
    at = data.indptr[1:][cut] - take[cut]
    return at[key[order[at]] == key[order[at - 1]]]


def _draw_ties(data: Interactions, key: Array, order: Array, tied: Array) -> None:
    """Put rows of a user with one key, those around `tied`, in the order that no seed changes."""
    ordered = key[order]
    begins = np.append(True, ordered[1:] != ordered[:-1])
    begins[data.indptr[:-1][data.user_degrees > 0]] = True
    run = np.cumsum(begins) - 1
    drawn = np.isin(run, run[tied]).nonzero()[0]
    place = np.empty(len(order), dtype=np.int64)
    place[_drawn_once(len(order))] = np.arange(len(order))
    rows = order[drawn]
    order[drawn] = rows[np.lexsort((place[rows], run[drawn]))]


def _from_cut(data: Interactions, cut: str | float, part: str) -> Array:
    times = np.asarray(data.timestamps)
    bound = _bound(times, cut)
    held = times >= bound
    if held.all() or not held.any():
        unit = likely_unit(int(times.max()))
        hint = f"; the timestamps look like {unit}" if unit else ""
        empty = "train" if held.all() else part
        raise DataError(
            f"the {part} cut {cut} (second {bound:.0f}) leaves no row in {empty}: timestamps run "
            f"from {times.min()} to {times.max()}{hint}; set "
            + ("data.split.cut=..." if part == "test" else "another data.split.valid, or 0")
        )
    return held


def likely_unit(latest: int) -> str | None:
    """The unit, if not seconds, that timestamps up to `latest` seem to have."""
    return next((unit for unit, n in UNITS.items() if latest > LATEST * n / 1000), None)


def day_of(times: Array) -> int:
    """A day in the unit that timestamps seem to have."""
    unit = likely_unit(int(times.max(initial=0)))
    return 86400 * (1 if unit is None else UNITS[unit])


def _bound(times: Array, cut: str | float) -> float:
    try:
        number = float(cut)
    except ValueError:
        moment = datetime.fromisoformat(str(cut))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if 0 < number < 1:
        at = min(int(number * len(times) + ROUNDING), len(times) - 1)
        return float(np.sort(times)[at])
    return number


def _nothing(part: str, strategy: str, share: float, data: Interactions) -> str:
    largest = int(data.user_degrees.max()) if len(data) else 0
    if strategy == "last":
        text = f"the largest user has {largest} rows"
        remedies = ["lower data.split.last_k"] if largest > 1 else []
    else:
        text = f"data.split.{part}={share} of the largest user's {largest} rows is below 1"
        remedies = [f"raise data.split.{part}"]
    remedies += ["set data.split.valid=0"] if part == "valid" else []
    return f"no {part} rows: {text}" + ("; " if remedies else "") + ", or ".join(remedies)


def counted(
    train: Interactions,
    valid: Interactions | None,
    test: Interactions | None,
    strategy: str,
    counts: Mapping[str, int],
) -> Split:
    """The split with the counts of its parts added to `counts`."""
    found = {**counts, "users": train.n_users, "items": train.n_items, "train": len(train)}
    for name, part in (("valid", valid), ("test", test)):
        if part is None:
            continue
        found[name] = len(part)
        found[f"users_without_{name}"] = int((part.user_degrees == 0).sum())
        found[f"{name}_cold_users"], found[f"{name}_cold_items"] = cold(train, part)
    sizes = ", ".join(f"{name} {found[name]:,}" for name in PARTS if name in found)
    log.info("split: %s, %s users, %s items: %s pairs", strategy, f"{train.n_users:,}",
             f"{train.n_items:,}", sizes)  # fmt: skip
    return Split(train, valid, test, strategy, found)


def cold(train: Interactions, part: Interactions) -> tuple[int, int]:
    """Users and items of a held-out part that have no train row."""
    users = (part.user_degrees > 0) & (train.user_degrees == 0)
    items = (part.item_degrees > 0) & (train.item_degrees == 0)
    return int(users.sum()), int(items.sum())


def merge(a: Interactions, b: Interactions) -> Interactions:
    """The pairs of both, such as train and valid of one split.

    Raises:
        DataError: the vocabularies differ, a pair is in both, or only one of them has timestamps
            (or weights).
    """
    check_pairs(a, "a")
    check_pairs(b, "b")
    if not same_ids(a, b):
        raise DataError("only interactions over the same users and items can be merged")
    return a.joined(b)
