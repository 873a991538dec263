"""From results to a table: mean and spread over seeds, change and significance against a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ssmrec.compare.methods import Method, run_of
from ssmrec.compare.plan import Plan
from ssmrec.compare.runner import tuned_settings
from ssmrec.compare.store import Outcome, Store
from ssmrec.errors import RunError
from ssmrec.evaluation.significance import TESTS, holm


@dataclass(frozen=True)
class Row:
    """One method on one data set.

    Args:
        label: of the method.
        values: metric to its value for each finished seed; None where a run was finished without it.
        tuned: the settings its trials chose.
        change: mean of the tested metric relative to the baseline's, minus 1.
        p: of the paired test against the baseline; holm: corrected for the rows of this data set.
        cost: means of `epoch` (seconds of one), `epochs` (the chosen one) and `train` (seconds).
        device: where the seconds were taken; a CPU's come first where a row has several.
        lists: means of how the lists are spread over the items: `mean_popularity`, `gini`, `coverage`,
            `tail_share`; empty where results do not say.
        groups: `recall`, `ndcg` and `length` of each popularity group, tail to head, means over
            seeds; None for an empty group; without those that results do not say.
        facts: protocol, and what chose the epoch; why a tuned method has no run.
    """

    label: str
    values: Mapping[str, Sequence[float | None]]
    tuned: Mapping[str, Any] = field(default_factory=dict)
    change: float | None = None
    p: float | None = None
    holm: float | None = None
    cost: Mapping[str, float] = field(default_factory=dict)
    device: str = ""
    lists: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    facts: frozenset[str] = frozenset()

    @property
    def seeds(self) -> int:
        """Finished runs."""
        return len(next(iter(self.values.values())))

    def held(self, metric: str) -> list[float]:
        """Its values, of the finished runs that were measured by it."""
        return [value for value in self.values[metric] if value is not None]

    def mean(self, metric: str) -> float | None:
        """Mean over the seeds that have it; None without any."""
        found = self.held(metric)
        return float(np.mean(found)) if found else None

    def sd(self, metric: str) -> float | None:
        """Standard deviation over those seeds (n - 1); None below two."""
        found = self.held(metric)
        return float(np.std(found, ddof=1)) if len(found) > 1 else None


@dataclass(frozen=True)
class Block:
    """The rows of one data set; `baseline` is the label of the row the others are held against."""

    data: str
    rows: list[Row]
    baseline: str


def aggregate(plan: Plan, methods: Sequence[Method], store: Store) -> list[Block]:
    """The table of all finished runs, from what is on file: nothing is measured.

    Raises:
        RunError: a result is damaged, or results were measured on different held-out pairs.
    """
    blocks = []
    for data in dict.fromkeys(method.data for method in methods):
        here = [method for method in methods if method.data == data]
        done = {method.label: _outcomes(plan, method, store) for method in here}
        _check_same_test(data, done)
        baseline = plan.baseline or here[0].label
        rows = [_row(plan, method, store, done[method.label]) for method in here]
        blocks.append(Block(data, _tested(plan, rows, done, baseline, data, store), baseline))
    return blocks


def paired(
    one: Mapping[int, Outcome], other: Mapping[int, Outcome], metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Values of each user of both methods, averaged over the seeds that both have.

    A user who is in the test part of some seeds only (random splits) is averaged over those. Runs
    whose users were not kept are left out.
    """
    sums, counts = np.zeros((2, 0)), np.zeros(0)
    for seed in (seed for seed in one if seed in other):
        if one[seed].users is None or other[seed].users is None:
            continue
        users, *at = np.intersect1d(one[seed].users, other[seed].users, return_indices=True)  # type: ignore[arg-type]
        more = max(0, int(users.max(initial=-1)) + 1 - len(counts))
        sums, counts = np.pad(sums, ((0, 0), (0, more))), np.pad(counts, (0, more))
        counts[users] += 1
        for row, (outcome, rows) in enumerate(zip((one[seed], other[seed]), at, strict=True)):
            sums[row, users] += outcome.per_user[metric][rows]  # type: ignore[index]
    there = counts > 0
    means = sums[:, there] / counts[there]
    return means[0], means[1]


def _outcomes(plan: Plan, method: Method, store: Store) -> dict[int, Outcome]:
    tuned = tuned_settings(plan, method, store)
    if tuned is None:
        return {}
    found = {seed: store.kept(run_of(method, seed, tuned), plan.metrics) for seed in plan.seeds}
    return {seed: outcome for seed, outcome in found.items() if outcome is not None}


def _check_same_test(data: str, done: Mapping[str, Mapping[int, Outcome]]) -> None:
    """Results of one seed must stand on the same held-out pairs."""
    first: dict[int, tuple[str, Outcome]] = {}
    for label, outcomes in done.items():
        for seed, outcome in outcomes.items():
            known, like = first.setdefault(seed, (label, outcome))
            if outcome.record["held_out_fingerprint"] != like.record["held_out_fingerprint"]:
                raise RunError(
                    f"{data}, seed {seed}: {label} and {known} were not measured on the same pairs: "
                    "the data changed between them; compare into a new folder, or give both the "
                    "same data settings"
                )


def _row(plan: Plan, method: Method, store: Store, outcomes: Mapping[int, Outcome]) -> Row:
    records = [outcome.record for outcome in outcomes.values()]
    values = {name: [record["metrics"].get(name) for record in records] for name in plan.metrics}
    tuned = tuned_settings(plan, method, store) if method.grid else {}
    facts = {f"protocol {r['protocol']}: epoch chosen on {r['selected_on']}" for r in records}
    if tuned is None:
        facts.add(
            f"tuned methods without a run: their trials, which choose by {plan.metric}, are not finished, "
            "or none gave a result"
        )
    cost, device = {}, ""
    if records:
        # Seconds are those of one device: a mean over several would be that of none.
        where = [record.get("device", "cpu") for record in records]
        device = max(where, key=lambda name: (name == "cpu", where.count(name)))
        timed = [record for record, name in zip(records, where, strict=True) if name == device]
        cost = {
            "epoch": float(np.mean([_epoch_seconds(record) for record in timed])),
            "epochs": float(np.mean([record["best_epoch"] for record in records])),
            "train": float(np.mean([record["seconds"]["train"] for record in timed])),
        }
    spread = [record["lists"] for record in records if record.get("lists")]
    lists = {name: float(np.mean([each[name] for each in spread])) for name in (spread or [{}])[0]}
    groups = _groups([record["groups"] for record in records if record.get("groups")])
    return Row(
        method.label, values, tuned or {}, cost=cost, device=device, lists=lists, groups=groups,
        facts=frozenset(facts),
    )  # fmt: skip


def _groups(found: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Means over seeds of what each group has; a group that is empty in one of them has none."""
    names = found[0] if found else ()
    columns = {name: zip(*(each[name] for each in found), strict=True) for name in names}
    return {
        name: [None if None in column else float(np.mean(column)) for column in of_groups]
        for name, of_groups in columns.items()
    }


def _epoch_seconds(record: Mapping[str, Any]) -> float:
    """Median over the epochs; the mean where an older result does not hold it."""
    seconds = record["seconds"]
    return seconds.get("epoch", seconds["train"] / max(record["epochs"], 1))


def _tested(
    plan: Plan,
    rows: list[Row],
    done: Mapping[str, Mapping[int, Outcome]],
    baseline: str,
    data: str,
    store: Store,
) -> list[Row]:
    """The rows with change and p of each against the baseline; Holm over them."""
    base = next((row for row in rows if row.label == baseline), None)
    least = None if base is None else base.mean(plan.metric)
    if base is None or least is None:
        return rows
    out = []
    for row in rows:
        value = row.mean(plan.metric)
        if row is base or value is None:
            out.append(row)
            continue
        name = f"{data}: {row.label} against {baseline}"
        p = _p(plan, name, done[row.label], done[baseline], store)
        out.append(replace(row, change=value / least - 1 if least else None, p=p))
    # A row that could not be tested counts as one more comparison, else lost values made others significant.
    compared = [row for row in out if row is not base and row.mean(plan.metric) is not None]
    corrected = iter(holm([1.0 if row.p is None else row.p for row in compared]))
    at = {row.label: next(corrected) for row in compared}
    return [row if row.p is None else replace(row, holm=at[row.label]) for row in out]


def _p(
    plan: Plan,
    name: str,
    one: Mapping[int, Outcome],
    other: Mapping[int, Outcome],
    store: Store,
) -> float | None:
    """p of the paired test; what an earlier test of these very results said, where users are not kept."""
    one, other = (_measured(side, plan.metric) for side in (one, other))
    seeds = [seed for seed in one if seed in other]
    means = [[side[s].record["metrics"][plan.metric] for side in (one, other)] for s in seeds]
    kept = all(side[seed].users is not None for side in (one, other) for seed in seeds)
    name = f"{name}, {plan.metric}, {plan.test}"
    if not kept and (p := store.tested(name, means)) is not None:
        return p
    users = paired(one, other, plan.metric)
    if not len(users[0]):
        return None
    p = float(TESTS[plan.test](*users))
    if kept:
        store.remember(name, means, p)
    return p


def _measured(outcomes: Mapping[int, Outcome], metric: str) -> dict[int, Outcome]:
    return {seed: found for seed, found in outcomes.items() if metric in found.record["metrics"]}
