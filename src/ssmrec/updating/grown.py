"""The pairs of an earlier run and new ones: one table to train on from there.

What the earlier run has seen, for training or to choose its epoch, is never held out to choose an epoch
now: it would be judged on what it knows.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ssmrec.data import Interactions, Split, Vocabulary, merge
from ssmrec.data.clean import drop_overlap, encode, k_core
from ssmrec.data.ids import same_type
from ssmrec.data.split import counted
from ssmrec.errors import ConfigError, DataError
from ssmrec.training.config import RunConfig
from ssmrec.training.given import weighs
from ssmrec.training.protocols import Trained
from ssmrec.training.seeds import numpy_generator

Array = np.ndarray

log = logging.getLogger(__name__)

_HELD_OUT = 0.1
"""Share of the new pairs that choose the epoch, where the run itself held nothing out."""


@dataclass(frozen=True)
class Grown:
    """The pairs to go on with.

    Args:
        split: train, valid (new pairs only; None where no epoch is chosen on it) and maybe test.
        counts: `users_` and `items_known`, `_new`, `_gone` (of those that were trained on);
            `pairs_known`, `_new`, `_duplicate` (new ones that were known), `_gone`.
    """

    split: Split
    counts: dict[str, int]


def grown(
    old: Trained,
    new: Interactions,
    config: RunConfig,
    whole: bool = False,
    test: Interactions | None = None,
) -> Grown:
    """The pairs of a run and new ones, over one vocabulary, the sorted ids of both.

    Validation, for the protocols that choose by it, is the share `data.split.valid` of the new pairs:
    the latest one of random users, then the one before, so that there are many users to average over
    (a random one where there are no timestamps). A pair that is all its user or its item has stays in
    train. Where weights count, a known pair that comes again has the larger of both, so that what is given
    twice counts once. `data.min_user` and `data.min_item` apply to all pairs together.

    Args:
        old: the run; all it has seen counts as known.
        new: pairs with external ids of the same kind.
        config: settings of the training to come.
        whole: `new` is everything there is: known pairs that it lacks are gone.
        test: pairs to measure on once, those that are known or new left out.

    Raises:
        DataError: nothing is new, gone or of another weight, or no new pair has a user or an item that
            the run knows.
        ConfigError: the run weighs its pairs, and it, or `new`, has no weights.
    """
    weighted = weighs(config.model_dump())
    if weighted:
        _check_weights(old, new)
    timed = old.seen.timestamps is not None and new.timestamps is not None
    frames = [_rows(old.seen, timed, weighted), _rows(new, True, weighted)]
    if test is not None:
        frames.append(_rows(test, False, weighted))
    for side in ("user", "item"):
        frames = same_type(frames, side)
    gone = changed = 0
    if whole:
        kept = frames[0].join(frames[1], on=["user", "item"], how="semi")
        gone, frames[0] = len(frames[0]) - len(kept), kept
    if weighted:
        frames[0], changed = _weighed_again(frames[0], frames[1], whole)
    names = ["known", "new", "test"][: len(frames)]
    coded, overlap = drop_overlap(encode(frames), "drop", names)
    coded, dropped = k_core(coded, config.data)
    known, fresh = coded.part(0), coded.part(1)
    _check(old, new)
    if not len(fresh) + gone + changed:
        raise DataError(_nothing(len(new), overlap["new_overlap"], dropped, config))
    _tell_dropped(dropped, config)
    counts = {
        **_compared(old.train, merge(known, fresh)),
        "pairs_known": len(known),
        "pairs_new": len(fresh),
        "pairs_duplicate": 0 if whole else overlap["new_overlap"],
        "pairs_gone": gone,
        **({"pairs_weighed_anew": changed} if weighted else {}),
    }
    held = np.zeros(len(fresh), dtype=bool)
    if config.train.protocol in ("valid", "refit") and len(fresh):
        share = config.data.split.valid or _HELD_OUT
        held = _held_out(known, fresh, share, numpy_generator(config.seed, "update"))
    train, valid = merge(known, fresh.take(~held)), fresh.take(held) if held.any() else None
    if not timed:
        train, valid = _plain(train), valid and _plain(valid)
    told = {**new.counts, **dropped, "test_overlap": overlap.get("test_overlap", 0)}
    split = counted(train, valid, None if test is None else _tested(coded.part(2)), "update", told)
    return Grown(split, counts)


def _tell_dropped(dropped: Mapping[str, int], config: RunConfig) -> None:
    """Rows that are too few today are in no run: a later update does not count them again."""
    for side in ("user", "item"):
        if count := dropped.get(f"dropped_min_{side}", 0):
            log.warning(
                "%d pairs dropped by data.min_%s=%d, and kept nowhere: name them again in a later update, "
                "with those that have come by then, or they do not count", count, side,
                getattr(config.data, f"min_{side}"),
            )  # fmt: skip


def _check(old: Trained, new: Interactions) -> None:
    """New pairs must have something in common with those of the run."""
    users = matched(old.train.users, new.users, old.train.user_degrees > 0)
    items = matched(old.train.items, new.items, old.train.item_degrees > 0)
    if len(new) and users.max() < 0 and items.max() < 0:
        has, have = (
            [side.ids[:2].to_list() for side in (pairs.users, pairs.items)]
            for pairs in (old.train, new)
        )
        raise DataError(
            f"no user and no item of the {len(new):,} new pairs is known to the run: it has users "
            f"{has[0]} ... and items {has[1]} ..., they have {have[0]} ... and {have[1]} ...; check "
            "the columns"
        )


def _nothing(new: int, known: int, dropped: dict[str, int], config: RunConfig) -> str:
    """What to say where no pair of `new` is left to learn, of which so many are known."""
    if known == new:
        return f"all of the {new:,} pairs are in the run already: nothing to learn"
    reasons = [
        f"data.min_{side}={getattr(config.data, f'min_{side}')}"
        for side in ("user", "item")
        if dropped.get(f"dropped_min_{side}")
    ]
    return (
        f"nothing to learn: of the {new:,} pairs {known:,} are in the run already, and the others "
        f"are dropped by {' and '.join(reasons)}"
    )


def _rows(pairs: Interactions, timed: bool = False, weighted: bool = False) -> pl.DataFrame:
    """Columns user, item, a timestamp that is 0 where none is known or wanted, and maybe a weight."""
    when, weights = pairs.timestamps if timed else None, pairs.weights
    when = np.zeros(len(pairs), dtype=np.int64) if when is None else when
    rows = pairs.frame().select("user", "item").with_columns(pl.Series("timestamp", when))
    if not weighted:
        return rows
    weights = np.ones(len(pairs)) if weights is None else weights.astype(np.float64)
    return rows.with_columns(pl.Series("weight", weights))


def _check_weights(old: Trained, new: Interactions) -> None:
    if old.seen.weights is None:
        raise ConfigError(
            "train.weight_power: the folder of the run is of a time when it kept no weights of its pairs, "
            "so that they cannot count here; train again on all pairs, or set it to 0"
        )
    if new.weights is None:
        raise ConfigError(
            "train.weight_power: the new pairs have no weights; name their column with data.weight, or "
            "set it to 0"
        )


def _weighed_again(known: pl.DataFrame, new: pl.DataFrame, whole: bool) -> tuple[pl.DataFrame, int]:
    """The known rows with the weights they have now, and how many of them that changes."""
    found = known.join(new, on=["user", "item"], how="left", maintain_order="left")
    again = pl.col("weight_right")
    weight = again if whole else pl.max_horizontal("weight", again)  # of the ones that are there
    weights = found.select(weight).to_series().rename("weight")
    return known.with_columns(weights), int((weights != known["weight"]).sum())


def _plain(pairs: Interactions) -> Interactions:
    """Without timestamps: those of the known pairs, or of the new ones, are not known."""
    return replace(pairs, timestamps=None)


def _tested(pairs: Interactions) -> Interactions:
    if not len(pairs):
        raise DataError("every test pair is among the pairs to train on: nothing to measure on")
    return replace(_plain(pairs), weights=None)


def _held_out(
    known: Interactions, fresh: Interactions, share: float, generator: np.random.Generator
) -> Array:
    """Which new pairs choose the epoch, bool (n,)."""
    assert fresh.timestamps is not None
    users, ties = fresh.rows, generator.permutation(len(fresh))
    order = np.lexsort((ties, fresh.timestamps, users))
    from_end = np.empty(len(fresh), dtype=np.int64)
    from_end[order] = fresh.indptr[1:][users] - np.arange(len(fresh))
    first = np.lexsort((generator.permutation(len(fresh)), from_end))
    held = np.zeros(len(fresh), dtype=bool)
    held[first[: math.ceil(share * len(fresh))]] = True
    rest = fresh.take(~held)
    alone = (known.user_degrees + rest.user_degrees)[fresh.rows] == 0
    alone |= (known.item_degrees + rest.item_degrees)[fresh.indices] == 0
    return held & ~alone


def _compared(old: Interactions, now: Interactions) -> dict[str, int]:
    """Users and items that were trained on and are there, that are new, that are no longer there."""
    found: dict[str, int] = {}
    for side, before, after, learned, present in (
        ("users", old.users, now.users, old.user_degrees > 0, now.user_degrees > 0),
        ("items", old.items, now.items, old.item_degrees > 0, now.item_degrees > 0),
    ):
        known = int((present & (matched(before, after, learned) >= 0)).sum())
        found[f"{side}_known"] = known
        found[f"{side}_new"] = int(present.sum()) - known
        found[f"{side}_gone"] = int(learned.sum()) - known
    return found


def matched(old: Vocabulary, new: Vocabulary, learned: Array) -> Array:
    """Index in `old` of each id of `new`, int64 (len(new),); -1 where `old` has learned nothing of it.

    Ids of different type match when their text is the same.
    """
    ids = new.ids
    if old.ids.dtype != ids.dtype:
        old, ids = Vocabulary(old.ids.cast(pl.String)), ids.cast(pl.String)
    at = old.encode(ids).astype(np.int64)
    return np.where((at >= 0) & learned[at], at, -1)
