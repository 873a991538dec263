"""`ssmrec evaluate --lists`: what the lists of other recommenders are worth beside those of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssmrec.data import Interactions
from ssmrec.errors import ConfigError
from ssmrec.evaluation import Result, evaluate_lists, parse_metric, read_lists
from ssmrec.evaluation.significance import randomisation

Others = Mapping[str, Result]
"""Results by the names of the files."""

_DOUBTS = {
    "users_without_list": "users have no list, which counts as 0",
    "seen_places": "places hold an item the user already has, which cannot be a hit",
    "repeated_rows": "rows repeat an item of the user's list, and were left out",
    "unknown_users": "users are not in the data, and were left out",
    "unknown_items": "items are not in the data: their places count as misses",
}


def of_others(
    files: Sequence[Path],
    held_out: Interactions,
    seen: Sequence[Interactions],
    names: Sequence[str],
) -> Others:
    """What `evaluate` gives for the lists of some files.

    Raises:
        ConfigError: a file is named twice. DataError: one cannot be read as lists.
    """
    twice = next((file for file in files if files.count(file) > 1), None)
    if twice is not None:
        raise ConfigError(f"--lists {twice}: is named twice")
    k = max(parse_metric(name).k for name in names)
    return {
        str(file): evaluate_lists(read_lists(file, held_out, k), held_out, seen, names)
        for file in files
    }


def facts(others: Others, own: Result, on: str) -> dict[str, Any]:
    """For JSON: values, counts and, for each metric, p of the paired randomisation test against the run."""
    return {
        file: {
            on: other.values,
            "counts": other.counts,
            "p": {
                name: randomisation(own.per_user[name], other.per_user[name]) for name in own.values
            },
        }
        for file, other in others.items()
    }


def told(others: Others, own: Result, label: str, names: Sequence[str]) -> list[str]:
    """Lines for people: how far the run is from each, by the ndcg of `names` or else its first; oddities."""
    name = next((name for name in names if name.startswith("ndcg")), names[0])
    lines = []
    for file, other in others.items():
        mine, theirs = own.values[name], other.values[name]
        p = randomisation(own.per_user[name], other.per_user[name])
        change = f"{100 * (mine / theirs - 1):+.1f} %" if theirs else "no hit in the lists"
        lines.append(
            f"{name} of {label} against {file}: {change}, p {p:.2g} (paired randomisation test over "
            f"{own.counts['users']:,} users)"
        )
        lines += [
            f"  {other.counts[key]:,} {text}" for key, text in _DOUBTS.items() if other.counts[key]
        ]
    return lines
