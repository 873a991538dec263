"""The data report: size, density, popularity, duplicates, cold users and items, time span."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from ssmrec.data.align import check_pairs
from ssmrec.data.interactions import Array, Interactions, Split
from ssmrec.data.split import UNITS, cold, likely_unit, merge


def gini(values: Array) -> float:
    """Gini coefficient of values >= 0: 0 when all are equal, near 1 when one has everything."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n, total = len(ordered), ordered.sum()
    if total == 0:
        return 0.0
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))


def statistics(data: Split | Interactions) -> dict[str, Any]:
    """Facts of a table or a split, in the order to print them.

    Returns:
        users, items, interactions (of all parts), density (share of filled cells, 0 to 1), gini
        (of item popularity, items without rows counted), duplicates, interactions per user
        (`per_user_min`, `_median`, `_mean`, `_max`) and, with timestamps, `first` and `last` (ISO).
        For a split also the size of the parts, overlap, and for each held-out part its users and
        items without a train row; then gini and interactions per user are those of train.
    """
    if not isinstance(data, Split):
        check_pairs(data, "data")
    whole = data if isinstance(data, Interactions) else _whole(data)
    base = data if isinstance(data, Interactions) else data.train
    facts: dict[str, Any] = {
        "users": whole.n_users,
        "items": whole.n_items,
        "interactions": len(whole),
        "density": len(whole) / max(whole.n_users * whole.n_items, 1),
    }
    if isinstance(data, Split):
        facts |= _parts(data)
    degrees = base.user_degrees[base.user_degrees > 0]
    degrees = degrees if len(degrees) else np.zeros(1, dtype=np.int64)  # no pairs at all
    facts |= {
        "duplicates": sum(n for key, n in data.counts.items() if key.endswith("duplicates")),
        "gini": gini(base.item_degrees),
        "per_user_min": int(degrees.min()),
        "per_user_median": float(np.median(degrees)),
        "per_user_mean": float(degrees.mean()),
        "per_user_max": int(degrees.max()),
    }
    return facts | _time_span(whole)


def _whole(data: Split) -> Interactions:
    whole = data.train
    for part in (data.valid, data.test):
        whole = whole if part is None else merge(whole, part)
    return whole


def _parts(data: Split) -> dict[str, Any]:
    facts: dict[str, Any] = {"split": data.strategy, "train": len(data.train)}
    for name, part in (("valid", data.valid), ("test", data.test)):
        if part is None:
            continue
        cold_users, cold_items = cold(data.train, part)
        facts |= {
            name: len(part),
            f"{name}_users": int((part.user_degrees > 0).sum()),
            f"{name}_cold_users": cold_users,
            f"{name}_cold_items": cold_items,
            f"{name}_overlap": data.counts.get(f"{name}_overlap", 0),
        }
    return facts


def _time_span(data: Interactions) -> dict[str, str]:
    if data.timestamps is None or len(data) == 0:
        return {}
    ends = {"first": int(data.timestamps.min()), "last": int(data.timestamps.max())}
    unit = likely_unit(ends["last"])
    span = {name: _iso(value // UNITS.get(unit or "", 1)) for name, value in ends.items()}
    return {**span, "timestamp_unit": f"looks like {unit}"} if unit else span


def _iso(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(seconds)
