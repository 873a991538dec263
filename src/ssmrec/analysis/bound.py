"""The ranking metric: sampled softmax bounds -log DCG from above (section 3.1.3 of Wu et al., TOIS 2024).

For a positive i among candidates I with logits f, let rank(i) = 1 + #{j in I: f_j > f_i}. Then (Eq 15, 16)

    -log DCG  <=  -log( 1 / log2(1 + rank(i)) )  <=  log rank(i)  <=  -log softmax_i = SSM,

for DCG sums over all relevant items of I, of which i is one; log2(1 + r) <= r for whole r >= 1; and
rank(i) <= sum_j e^{f_j - f_i}. The bound is about the candidates: over a sample it says nothing of ranks in the
catalogue, with all items in I it is the bound of softmax on DCG (Bruch et al., ICTIR 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ssmrec.analysis.checks import check_masks, check_rows, check_shape
from ssmrec.analysis.magnitude import spearman
from ssmrec.analysis.negatives import known_candidates
from ssmrec.analysis.subject import Subject, scores_at
from ssmrec.analysis.weights import temperature_grid
from ssmrec.data import Interactions
from ssmrec.errors import DataError
from ssmrec.training.seeds import numpy_generator

Array = np.ndarray

TERMS = ("neg_log_dcg", "neg_log_gain", "log_rank", "ssm")
"""The four terms of the chain, smallest first; fields of `Chain`."""


@dataclass(frozen=True, eq=False)
class Chain:
    """The terms of the chain for each row, float64 (B,), in nats.

    Args:
        neg_log_dcg: -log DCG, DCG over all relevant candidates of the row.
        neg_log_gain: -log(1 / log2(1 + rank)) of the row's positive alone.
        log_rank: log of its rank.
        ssm: the sampled softmax loss of the row.
    """

    neg_log_dcg: Array
    neg_log_gain: Array
    log_rank: Array
    ssm: Array


def bound_chain(pos: Array, others: Array, live: Array, dcg: Array | None = None) -> Chain:
    """Eq 15 and 16 for each row.

    Args:
        pos: (B,) logits of the positives.
        others: (B, N) logits of the other candidates; log q is not subtracted, it would change ranks.
        live: bool (B, N), which candidates are in I.
        dcg: (B,) DCG over all relevant items of I, above 0; None where the positive is the only one.

    Raises:
        DataError: shapes do not fit, a mask is not bool, a logit is NaN, so that it has no rank, or a DCG
            not above 0.
    """
    pos = np.asarray(pos, dtype=np.float64)
    if dcg is not None:
        check_shape(pos.shape, dcg=dcg)
        if not (dcg > 0).all():
            raise DataError("the DCG of a row must be above 0: its positive alone adds to it")
    rank = ranks(pos, others, live)
    gain = 1 / np.log2(1 + rank)
    return Chain(
        neg_log_dcg=-np.log(gain if dcg is None else dcg),
        neg_log_gain=-np.log(gain),
        log_rank=np.log(rank),
        ssm=softmax_loss(pos, others, live),
    )


def _check_numbers(*logits: Array) -> None:
    if any(np.isnan(each).any() for each in logits):
        raise DataError("logits hold values that are not numbers, which have no rank")


def ranks(pos: Array, others: Array, live: Array) -> Array:
    """rank(i) = 1 + number of live others with a larger logit, int64 (B,); arguments as for `bound_chain`."""
    check_rows(pos, others, live)
    _check_numbers(pos, others)
    return 1 + ((others > np.asarray(pos)[:, None]) & live).sum(1)


def softmax_loss(pos: Array, others: Array, live: Array) -> Array:
    """log( 1 + sum_j e^{f_j - f_i} ) over live others, float64 (B,): SSM, Eq 5; as `bound_chain`."""
    check_rows(pos, others, live)
    rest = np.where(live, np.asarray(others, dtype=np.float64) - np.asarray(pos)[:, None], -np.inf)
    top = np.maximum(rest.max(1, initial=-np.inf), 0)
    return top + np.log(np.exp(-top) + np.exp(rest - top[:, None]).sum(1))


def batch_dcg(pos: Array, others: Array, live: Array, relevant: Array) -> Array:
    """DCG over all relevant candidates of each row, float64 (B,): its positive, and live others.

    Args:
        pos, others, live: as for `bound_chain`.
        relevant: bool (B, N), which others the row's user has too; each counts at its own rank.

    Raises:
        DataError: shapes do not fit, a mask is not bool, or a logit is NaN.
    """
    pos, others = np.asarray(pos, dtype=np.float64), np.asarray(others, dtype=np.float64)
    dcg = 1 / np.log2(1 + ranks(pos, others, live))
    check_masks(others.shape, relevant=relevant)
    for b in np.flatnonzero((relevant & live).any(1)):
        order = np.sort(np.append(others[b, live[b]], pos[b]))
        scores = others[b, relevant[b] & live[b]]
        above = len(order) - np.searchsorted(order, scores, side="right")
        dcg[b] += (1 / np.log2(2 + above)).sum()
    return dcg


def catalogue_chain(scores: Array, positives: Array) -> Chain:
    """Eq 15 and 16 for all relevant items of one user, I being all of `scores`; one sort, not one a row.

    Args:
        scores: (n,) logits of the candidates.
        positives: int (p,), distinct positions of all relevant items among them, p at least 1.

    Raises:
        DataError: no positive, one that is not there or comes twice, or a logit is NaN, so that it has no rank.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if not len(positives):
        raise DataError("the user has no relevant item among the candidates: leave him out")
    if (
        not np.issubdtype(np.asarray(positives).dtype, np.integer)
        or min(positives) < 0
        or max(positives) >= len(scores)
        or len(np.unique(positives)) < len(positives)
    ):
        raise DataError(f"positives must be distinct positions, 0 to {len(scores) - 1}")
    _check_numbers(scores)
    pos = scores[positives]
    rank = 1 + len(scores) - np.searchsorted(np.sort(scores), pos, side="right")
    gain = 1 / np.log2(1 + rank)
    return Chain(
        neg_log_dcg=np.full(len(pos), -np.log(gain.sum())),
        neg_log_gain=-np.log(gain),
        log_rank=np.log(rank),
        ssm=_catalogue_loss(scores, positives),
    )


def _catalogue_loss(scores: Array, positives: Array) -> Array:
    """SSM of each positive among all of `scores`, float64 (p,)."""
    top = scores.max()
    return top + np.log(np.exp(scores - top).sum()) - scores[positives]


def bound_section(subject: Subject, rows: int, users: int, seed: int) -> list[dict[str, Any]]:
    """The chain over sampled candidates and over the catalogue, as `run` documents it.

    Scores are those of training: its similarity over its temperature. Empty without vectors or loss.
    """
    if subject.final is None or subject.solved:
        return []
    train, listable = subject.train, subject.train.item_degrees > 0
    parts = [
        _summary("batch", "training pairs, batch", _in_batch(subject, rows, seed)),
        _summary(
            "train", "training pairs, all items",
            _in_catalogue(subject, train, [], listable, users, seed),
        ),
        _summary(
            "held_out", "held-out pairs, unseen items",
            _in_catalogue(subject, subject.held_out, subject.seen, listable, users, seed),
        ),
    ]  # fmt: skip
    return [part for part in parts if part]


@dataclass(frozen=True, eq=False)
class _Chains:
    """The chain at the run's temperature, candidates per row, and SSM at each temperature (T, B)."""

    chain: Chain
    candidates: Array
    ssm: Array
    temperatures: list[float]


def _in_batch(subject: Subject, rows: int, seed: int) -> _Chains:
    assert subject.final is not None
    table, drawn = subject.logits(subject.final), subject.draw(rows, seed)
    pos = (table.users[drawn.users] * table.items[drawn.items]).sum(1)
    others = scores_at(table.users, table.items, drawn.users, drawn.candidates)
    known = known_candidates(subject, drawn)
    grid = temperature_grid(subject.temperature)
    scales = [subject.temperature / t for t in grid]
    return _Chains(
        bound_chain(pos, others, drawn.live, batch_dcg(pos, others, drawn.live, known)),
        1 + drawn.live.sum(1),
        np.stack([softmax_loss(scale * pos, scale * others, drawn.live) for scale in scales]),
        grid,
    )


def _in_catalogue(
    subject: Subject, relevant: Interactions, hidden: list[Interactions], listable: Array,
    users: int, seed: int,
) -> _Chains | None:  # fmt: skip
    """Chains of all `relevant` items of some users, among the listable items that are not hidden."""
    assert subject.final is not None
    table, grid = subject.logits(subject.final), temperature_grid(subject.temperature)
    having = np.flatnonzero((relevant.user_degrees > 0) & (subject.train.user_degrees > 0))
    chains, sizes, losses = [], [], []
    for user in np.sort(numpy_generator(seed, "bound").permutation(having)[:users]):
        open_ = listable.copy()
        for known in hidden:
            open_[_items_of(known, user)] = False
        wanted = _items_of(relevant, user)
        places = np.flatnonzero(open_)
        positives = np.searchsorted(places, wanted[open_[wanted]])
        if not len(positives):
            continue
        scores = table.items[places] @ table.users[user]
        chains.append(catalogue_chain(scores, positives))
        sizes.append(np.full(len(positives), len(places)))
        losses.append(np.stack([
            _catalogue_loss(subject.temperature / t * scores, positives) for t in grid
        ]))  # fmt: skip
    if not chains:
        return None
    joined = Chain(*(np.concatenate([getattr(c, term) for c in chains]) for term in TERMS))
    return _Chains(joined, np.concatenate(sizes), np.concatenate(losses, axis=1), grid)


def _items_of(pairs: Interactions, user: int) -> Array:
    return pairs.indices[pairs.indptr[user] : pairs.indptr[user + 1]]


def _summary(name: str, label: str, found: _Chains | None) -> dict[str, Any]:
    if found is None:
        return {}
    terms = [getattr(found.chain, term) for term in TERMS]
    stacked = np.stack(terms)
    steps = stacked[1:] - stacked[:-1]
    means = found.ssm.mean(1)
    return {
        "name": name,
        "label": label,
        "pairs": len(terms[0]),
        "candidates": float(found.candidates.mean()),
        "median_rank": float(np.median(np.exp(found.chain.log_rank).round())),
        "terms": {term: float(values.mean()) for term, values in zip(TERMS, terms, strict=True)},
        "gap": float((terms[-1] - terms[0]).mean()),
        "violations": int(np.any(steps < -1e-9, axis=0).sum()),
        "spearman": spearman(found.chain.ssm, found.chain.log_rank),
        "temperatures": [
            {"temperature": t, "ssm": float(mean)}
            for t, mean in zip(found.temperatures, means, strict=True)
        ],
        "tightest": found.temperatures[int(means.argmin())],
    }
