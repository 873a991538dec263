"""The score that minimises sampled softmax for one user, when every score is free (Eq 6 to 9).

The user has positives P. Each positive i is contrasted with N negatives drawn from p, and the law of large
numbers turns their sum into its expectation; c_j = N p(j) is the expected count of item j:

    L(f) = sum_{i in P} log( 1 + Z / e^{f_i} ),     Z = sum_j c_j e^{f_j}, over all items j.

Items outside P only add to Z, so their best score is minus infinity. Setting dL/df_i = 0 for i in P gives, with
a_i = e^{f_i} / Z,

    a_i / (1 + a_i) + c_i a_i sum_{k in P} 1 / (1 + a_k) = 1,

and with a_k << 1 the closed form of Wu et al. (TOIS 2024, Eq 9), a_i = 1 / (1 + |P| c_i): the more often an
item is drawn, the lower its best score. The approximation is good where |P| c_i is large.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ssmrec.analysis.checks import check_shape
from ssmrec.analysis.magnitude import by_degree, spearman
from ssmrec.analysis.subject import Subject
from ssmrec.errors import DataError
from ssmrec.training.seeds import numpy_generator

Array = np.ndarray

RAREST = 1e-16
"""Below this expected count a draw adds less to the loss than float64 can tell apart."""

MOST_ITEMS = 1000
"""Users with more items are not minimised for: a Newton step takes the cube of their number."""


def closed_form_scores(expected: Array) -> Array:
    """Eq 9 at the positives of one user, without the user's constant log Z: -log(1 + |P| c_i).

    Args:
        expected: float (p,), expected counts c_i = N p(i) of the user's positives, at least 0.

    Raises:
        DataError: a count is negative, or no finite number.
    """
    expected = np.asarray(expected, dtype=np.float64)
    if not ((expected >= 0) & (expected < np.inf)).all():
        raise DataError("expected counts must be at least 0 and finite")
    return -np.log1p(len(expected) * expected)


def minimised_scores(expected: Array, steps: int = 100) -> Array:
    """Scores of the positives that minimise L, found numerically by Newton's method in float64.

    L is convex in the scores. No approximation is made but that of the expectation; items outside P
    are at their best, minus infinity, and take no part.

    Args:
        expected: float (p,), expected counts of the user's positives, at least `RAREST`; p at least 1.
        steps: Newton steps, at most; a handful is enough.

    Returns:
        float64 (p,), relative to log Z, as `closed_form_scores`.

    Raises:
        DataError: no positive, or one of a smaller count: that of one never drawn has no best score.
    """
    counts = _positive(expected)
    scores = closed_form_scores(counts)
    for _ in range(steps):
        gradient, hessian = _derivatives(scores, counts)
        # L does not change when all scores move together: the rank-one term fixes their mean.
        step = np.linalg.solve(hessian + 1 / len(scores), gradient)
        if np.abs(step).max() < 1e-10:
            break
        length, before = 1.0, expected_loss(scores, counts)
        while expected_loss(scores - length * step, counts) > before and length > 1e-6:
            length /= 2
        scores = scores - length * step
    return scores - _log_z(scores, counts)


def expected_loss(scores: Array, counts: Array) -> float:
    """L of the module's docstring for positives (p,) with the other items at minus infinity.

    Raises:
        DataError: as `minimised_scores`, or the two differ in length.
    """
    counts = _positive(counts)
    check_shape(counts.shape, scores=scores)
    return float(np.logaddexp(0, _log_z(scores, counts) - scores).sum())


def _positive(counts: Array) -> Array:
    counts = np.asarray(counts, dtype=np.float64)
    if not counts.size or not ((counts >= RAREST) & (counts < np.inf)).all():
        raise DataError(
            f"the loss of a user needs a positive item, and finite expected counts of {RAREST} at least: "
            "leave out items that are never drawn"
        )
    return counts


def _log_z(scores: Array, counts: Array) -> float:
    top = scores.max()
    return float(top + np.log((counts * np.exp(scores - top)).sum()))


def _derivatives(scores: Array, counts: Array) -> tuple[Array, Array]:
    """Gradient (p,) and Hessian (p, p) of L.

    With s_i = 1 - e^{f_i} / (e^{f_i} + Z) and w_j = c_j e^{f_j} / Z: dL = sum_i s_i (w - e_i)'df.
    """
    log_z = _log_z(scores, counts)
    w = counts * np.exp(scores - log_z)
    s = 1 / (1 + np.exp(scores - log_z))
    curved = s * (1 - s)
    total, bent = s.sum(), curved.sum()
    cross = np.outer(w, curved)
    hessian = (bent - total) * np.outer(w, w) - cross - cross.T + np.diag(curved + total * w)
    return total * w - s, hessian


def centred(values: Array, rows: Array) -> Array:
    """`values` (n,) minus the mean of their row; rows int (n,). Removes what is constant in a user.

    Raises:
        DataError: the two differ in length.
    """
    check_shape(np.shape(rows), values=values)
    counts = np.maximum(np.bincount(rows), 1)
    return values - (np.bincount(rows, values) / counts)[rows]


def slope_within(values: Array, predictor: Array, rows: Array) -> float:
    """Least-squares slope of `values` on `predictor` after centring both within rows.

    With log degree as predictor, -1 is "inversely proportional to popularity in log scale" and 0 no
    dependence. NaN where the predictor does not vary within any row.
    """
    x, y = centred(predictor, rows), centred(values, rows)
    square = float((x * x).sum())
    return float((x * y).sum()) / square if square > 0 else float("nan")


def theory_section(subject: Subject, users: int, seed: int) -> dict[str, Any] | None:
    """Eq 9 against the numerical minimum and against the run's own scores, as `run` documents it.

    Over the training pairs of `users` users with 2 to `MOST_ITEMS` items. Where Eq 9 does not describe the
    run's training, the expected counts are those of the paper's sampler: N draws by popularity,
    uncorrected, the user's own items among them. None where no user has so many items.
    """
    train = subject.train
    counts, reason = expected_counts(subject)
    drawn = _some_users(train.user_degrees, users, seed)
    if not drawn:
        return None
    pairs = [(user, train.indices[train.indptr[user] : train.indptr[user + 1]]) for user in drawn]
    rows = np.repeat(np.arange(len(pairs)), [len(items) for _, items in pairs])
    items = np.concatenate([items for _, items in pairs])
    closed = centred(np.concatenate([closed_form_scores(counts[i]) for _, i in pairs]), rows)
    best = centred(np.concatenate([minimised_scores(counts[i]) for _, i in pairs]), rows)
    own = _run_scores(subject, np.asarray(drawn)[rows], items)
    own = None if own is None else centred(own, rows)
    degrees = train.item_degrees[items]
    log_degree = np.log(degrees)
    scores = {"closed_form": closed, "minimised": best} | ({} if own is None else {"run": own})
    columns = {name: by_degree(values, degrees) for name, values in scores.items()}
    expected = by_degree(counts[items], degrees)
    return {
        "applies": not reason,
        "reason": reason or None,
        "n_negatives": float(counts.sum()),
        "users": len(pairs),
        "pairs": len(items),
        "difference": {
            "median": float(np.median(np.abs(closed - best))),
            "largest": float(np.abs(closed - best).max()),
        },
        "correlation": spearman(closed, best),
        "slope": {"run": None} | {
            name: slope_within(values, log_degree, rows) for name, values in scores.items()
        },
        "bins": [
            {"degree_min": b["degree_min"], "degree_max": b["degree_max"], "degree": b["degree"],
             "pairs": b["nodes"], "expected_count": b["mean"], "run": None}
            | {name: column[at]["mean"] for name, column in columns.items()}
            for at, b in enumerate(expected)
        ],
    }  # fmt: skip


def expected_counts(subject: Subject) -> tuple[Array, str]:
    """c_j of every item under the run's sampler, (n_items,), and why Eq 9 is not about the run if so.

    A negative whose logit has log c_j subtracted counts once, whatever c_j is.
    """
    train, loss, settings = subject.train, subject.config.loss["name"], subject.config.negatives
    in_batch = max(min(subject.config.train.batch_size, len(train)) - 1, 1)
    softmax = not subject.solved and loss in ("ssm", "softmax")
    n = settings.get("n", in_batch) if softmax else in_batch
    popular = train.item_degrees / len(train) * n
    if subject.solved:
        return popular, "the model was not trained with sampled negatives"
    if not softmax:
        return popular, f"the loss is {loss}, not sampled softmax"
    if settings.get("exclude_known"):
        return popular, (
            "the run leaves out negatives that the user is known to have (exclude_known), so nothing "
            "bounds the free scores of his items from above"
        )
    if settings.get("log_q") or settings["name"] == "all":
        return np.ones(train.n_items), ""
    if settings["name"] in ("in_batch", "popularity", "uniform"):
        beta = {"in_batch": 1.0, "uniform": 0.0}.get(settings["name"], settings.get("beta", 1.0))
        weights = np.where(train.item_degrees > 0, train.item_degrees, 0 if beta else 1) ** beta
        counts = n * weights / weights.sum()
        if counts[train.item_degrees > 0].min() < RAREST:
            return (
                popular,
                "the sampler draws some items so rarely that no best score is told apart",
            )
        return counts, ""
    return popular, f"the noise distribution of sampler {settings['name']} is not known"


def _some_users(degrees: Array, users: int, seed: int) -> list[int]:
    several = np.flatnonzero((degrees >= 2) & (degrees <= MOST_ITEMS))
    chosen = numpy_generator(seed, "theory").permutation(several)[:users]
    return sorted(int(user) for user in chosen)


def _run_scores(subject: Subject, users: Array, items: Array) -> Array | None:
    """The run's training logits at some pairs; None where it has no vectors."""
    if subject.final is None:
        return None
    table = subject.logits(subject.final)
    return (table.users[users] * table.items[items]).sum(1)
