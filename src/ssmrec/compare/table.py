"""From results to a table: mean and spread over seeds, change and significance against a baseline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ssmrec.compare.methods import Method, run_of
from ssmrec.compare.plan import Plan
from ssmrec.compare.runner import tuned_settings
from ssmrec.compare.store import Comparison, Outcome, Store, Tested
from ssmrec.errors import RunError
from ssmrec.evaluation.significance import TESTS, holm


@dataclass(frozen=True)
class Row:
    """One method on one data set.

    Args:
        label: of the method.
        values: metric to its value for each finished seed; None where a run was finished without it.
        tuned: the settings its trials chose.
        change: mean of the tested metric relative to the baseline's, minus 1, over the seeds that both have.
        p: of the paired test against the baseline; holm: corrected for the rows of this data set.
        p_seeds: the seeds p stands on where the users' values of others were not kept; else empty.
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
    p_seeds: Sequence[int] = ()
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
        _check_same_data(data, done)
        baseline = plan.baseline or here[0].label
        rows = [_row(plan, method, store, done[method.label]) for method in here]
        blocks.append(Block(data, _tested(plan, here, rows, done, baseline, store), baseline))
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


def _check_same_data(data: str, done: Mapping[str, Mapping[int, Outcome]]) -> None:
    """Results of the same data settings, of whatever seed, must stand on data of the same size."""
    first: dict[str, tuple[str, Outcome]] = {}
    for label, outcomes in done.items():
        for seed, outcome in outcomes.items():
            if "data_read" not in outcome.record:  # of an earlier version
                continue
            settings = json.dumps(outcome.record["settings"]["data"], sort_keys=True)
            name = f"{label}, seed {seed}"
            known, like = first.setdefault(settings, (name, outcome))
            was, now = like.record["data_read"], outcome.record["data_read"]
            if was != now:
                key = next(key for key in {**was, **now} if was.get(key) != now.get(key))
                raise RunError(
                    f"{data}: the data changed between {known} ({key.replace('_', ' ')} {was.get(key)}) and "
                    f"{name} ({now.get(key)}): compare into a new folder"
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
    methods: Sequence[Method],
    rows: Sequence[Row],
    done: Mapping[str, Mapping[int, Outcome]],
    baseline: str,
    store: Store,
) -> list[Row]:
    """The rows with change and p of each against the baseline; Holm over them."""
    # Found by the settings of their runs, of whatever seed: labels may change.
    keys = {
        row.label: run_of(method, 0, row.tuned).key
        for method, row in zip(methods, rows, strict=True)
    }
    out = []
    for row in rows:
        one, other = _shared(plan.metric, done[row.label], done.get(baseline, {}))
        if row.label == baseline or not one:
            out.append(row)
            continue
        means = [
            [side[seed].record["metrics"][plan.metric] for side in (one, other)] for seed in one
        ]
        value, least = np.mean(means, axis=0)
        how = f"{plan.metric}, {plan.test}"
        test = Comparison(
            f"{keys[row.label]} against {keys[baseline]}, {how}",
            f"{methods[0].data}: {row.label} against {baseline}, {how}",
            means,
            tuple(one),
        )
        change = float(value / least - 1) if least else None
        found = _tested_users(plan, test, one, other, store)
        p, seeds = (None, ()) if found is None else (found.p, found.seeds)
        out.append(replace(row, change=change, p=p, p_seeds=seeds))
    # A row that could not be tested counts as one more comparison, else lost values made others significant.
    compared = [row for row in out if row.label != baseline and row.mean(plan.metric) is not None]
    corrected = iter(holm([1.0 if row.p is None else row.p for row in compared]))
    at = {row.label: next(corrected) for row in compared}
    return [row if row.p is None else replace(row, holm=at[row.label]) for row in out]


def _shared(
    metric: str, one: Mapping[int, Outcome], other: Mapping[int, Outcome]
) -> tuple[dict[int, Outcome], dict[int, Outcome]]:
    """The outcomes of both for the seeds that both have, measured by `metric`."""
    seeds = [
        seed for seed in one
        if seed in other and all(metric in side[seed].record["metrics"] for side in (one, other))
    ]  # fmt: skip
    return {seed: one[seed] for seed in seeds}, {seed: other[seed] for seed in seeds}


def _tested_users(
    plan: Plan,
    test: Comparison,
    one: Mapping[int, Outcome],
    other: Mapping[int, Outcome],
    store: Store,
) -> Tested | None:
    """p of the paired test over the seeds whose users' values are kept, all of them if possible.

    An earlier test of these results may stand on more seeds than are kept now, and then counts.
    """
    kept = [s for s in one if one[s].users is not None and other[s].users is not None]
    known = store.tested(test)
    if known and len(known.seeds or one) > len(kept):
        return store.remember(test, known)
    users = paired(one, other, plan.metric)
    if not len(users[0]):
        return None
    p = float(TESTS[plan.test](*users))
    return store.remember(test, Tested(p, () if len(kept) == len(one) else tuple(kept)))
