"""Running a plan: what is kept, reused, resumed, tuned, and what happens when a run fails."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from ssmrec.compare import (
    Store,
    Watcher,
    aggregate,
    attempt,
    expand,
    make_plan,
    run_of,
    run_plan,
    trials,
)
from ssmrec.compare.runner import chosen, tuned_settings
from ssmrec.errors import ConfigError, RunError
from ssmrec.models.closed import EASE
from ssmrec.recommender import Recommender
from ssmrec.training import load_run

from .conftest import write_tastes


class Log(Watcher):
    """Titles of the jobs that were begun, and the time left at each."""

    def __init__(self, stop_at: tuple[int, int] | None = None) -> None:
        self.titles, self.lefts, self.ended, self.reasons = [], [], [], []
        self.stop_at = stop_at

    def begin(self, job, done, total, left):
        self.titles.append(job.title)
        self.lefts.append((done, total, left))

    def end(self, job, outcome):
        self.ended.append(job.title)

    def failed(self, job, reason):
        self.reasons.append(reason)

    def step(self, epoch, done, total, loss):
        if self.stop_at == (len(self.titles), epoch):
            raise KeyboardInterrupt


def run(values, out, log=None, only=""):
    plan = make_plan(values)
    methods = expand(plan)
    log = log or Log()
    failures = run_plan(plan, methods, out, log, only)
    return plan, methods, failures, log


def tables(plan, methods, out):
    return [[(row.label, row.values, row.p) for row in block.rows]
            for block in aggregate(plan, methods, Store(out))]  # fmt: skip


def test_every_method_gets_a_seed_before_any_gets_the_next(small, tmp_path):
    _plan, _methods, failures, log = run(small, tmp_path / "out")
    labels = ["mf + bpr", "mf + ssm", "lightgcn + bpr", "lightgcn + ssm"]
    assert log.titles == [f"shop: {label}, seed {seed}" for seed in (0, 1) for label in labels]
    assert log.ended == log.titles and failures == []
    assert [(done, total) for done, total, _ in log.lefts] == [(n, 8) for n in range(8)]
    assert log.lefts[0][2] is None and all(left > 0 for *_, left in log.lefts[1:])


def test_a_run_is_a_normal_run_folder_and_its_result_stands_alone(small, tmp_path):
    out = tmp_path / "out"
    plan, methods, _, _ = run(small, out, only="mf . ssm, seed 1")
    job = run_of(methods[1], 1, {})
    store = Store(out)
    recommender = Recommender.load(store.folder(job))
    assert recommender.config_ == job.config and len(recommender.recommend(k=3)) == 180
    outcome = store.load(job, plan.metrics)
    assert outcome.record["metrics"]["ndcg@5"] == recommender.metrics_["test"]["ndcg@5"]
    for name in plan.metrics:
        mean = outcome.per_user[name].astype(float).mean()
        assert mean == pytest.approx(outcome.record["metrics"][name], abs=1e-6)
    assert len(outcome.users) == outcome.record["counts"]["users"] == len(np.unique(outcome.users))
    assert outcome.record["settings"]["loss"]["temperature"] == 0.2
    (file,) = (out / "results").iterdir()
    assert file.stem == store.folder(job).name == job.name and file.stat().st_size < 6000
    before = tables(plan, methods, out)
    shutil.rmtree(out / "runs")
    assert tables(plan, methods, out) == before


def test_a_table_that_is_only_printed_takes_what_the_json_files_hold(small, tmp_path):
    """The runs are there and the users' values are not: the next run measures them again."""
    out = tmp_path / "out"
    plan, methods, _, _ = run(small, out)
    store, before = Store(out), tables(plan, methods, out)
    aggregate(plan, methods, store)
    store.save_tests()
    kept = {path.name: path.read_bytes() for path in (out / "users").iterdir()}
    shutil.rmtree(out / "users")
    assert tables(plan, methods, out) == before and before[0][1][2] is not None
    *_, log = run(small, out)
    assert len(log.titles) == 8 and kept.keys() == {p.name for p in (out / "users").iterdir()}
    assert tables(plan, methods, out) == before


def test_a_result_tells_how_its_lists_are_spread(small, tmp_path):
    out = tmp_path / "out"
    small |= {"models": "mf", "losses": "ssm", "seeds": 1}
    plan, methods, _, _ = run(small, out)
    job, store = run_of(methods[0], 0, {}), Store(out)
    trained, _ = load_run(store.folder(job))
    outcome = store.load(job, plan.metrics)
    users = trained.train.users.ids.gather(outcome.users).to_list()
    places = Recommender.load(store.folder(job)).recommend(users, k=5)["item"].to_list()
    assert len(places) == 5 * len(users) >= 250
    index = {item: at for at, item in enumerate(trained.train.items.ids.to_list())}
    degrees = trained.train.item_degrees
    popular = [int(degrees[index[item]]) for item in places]
    order = sorted(index.values(), key=lambda at: (degrees[at], at))
    tail = set(order[: round(0.8 * len(order))])
    assert degrees.min() > 0
    (row,) = aggregate(plan, methods, store)[0].rows
    assert row.lists["mean_popularity"] == pytest.approx(sum(popular) / len(popular))
    assert row.lists["coverage"] == len(set(places)) / len(order)
    assert row.lists["tail_share"] == pytest.approx(
        sum(index[item] in tail for item in places) / len(places)
    )
    record = outcome.record
    took = sorted(epoch["train_seconds"] for epoch in trained.history)
    assert row.cost["epoch"] == record["seconds"]["epoch"] == took[1]  # of three


def test_finished_runs_are_reused_whatever_they_are_called_now(small, tmp_path):
    out = tmp_path / "out"
    run({**small, "seeds": 1}, out)
    small["models"][0] = {"name": "mf", "label": "factors"}
    plan, methods, _, log = run(small, out)
    assert len(log.titles) == 4 and all("seed 1" in title for title in log.titles)
    assert [row.seeds for row in aggregate(plan, methods, Store(out))[0].rows] == [2] * 4
    *_, log = run(small, out)
    assert log.titles == []


def test_a_new_metric_is_measured_without_training(small, tmp_path):
    out = tmp_path / "out"
    small |= {"models": "mf", "losses": "ssm", "seeds": 1}
    run(small, out)
    (weights,) = out.glob("runs/*/model.safetensors")
    before = weights.stat().st_mtime_ns
    plan, methods, _, log = run({**small, "metrics": ["ndcg@5", "mrr@3"]}, out)
    assert len(log.titles) == 1 and weights.stat().st_mtime_ns == before
    assert 0 < aggregate(plan, methods, Store(out))[0].rows[0].mean("mrr@3") < 1


@pytest.mark.parametrize("protocol", ["valid", "refit"])
def test_an_interrupted_comparison_ends_as_an_unbroken_one(small, tmp_path, protocol):
    small["base"]["train"] |= {"protocol": protocol, "epochs": 4}
    plan, methods, _, _ = run(small, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(small, tmp_path / "broken", Log(stop_at=(3, 3)))
    store = Store(tmp_path / "broken")
    states = [store.state(run_of(method, 0, {})) for method in methods]
    assert states == ["finished", "finished", "interrupted", "missing"]
    *_, log = run(small, tmp_path / "broken")
    assert len(log.titles) == 6 and log.titles[0] == "shop: lightgcn + bpr, seed 0"
    assert tables(plan, methods, tmp_path / "broken") == tables(plan, methods, tmp_path / "whole")
    assert not list(tmp_path.glob("broken/runs/*/checkpoint*"))


def test_tuning_takes_the_best_on_validation_for_all_seeds(small, tmp_path):
    """lr 1e-9 learns nothing, so validation takes the other; test is absent while it does."""
    small |= {"models": "mf", "losses": "ssm", "tune": {"train.lr": [1.0e-9, 0.05]}}
    out = tmp_path / "out"
    plan, (method,), _, log = run(small, out)
    assert log.titles == [
        "shop: mf + ssm, trial 1, seed 0", "shop: mf + ssm, trial 2, seed 0",
        "shop: mf + ssm, seed 0", "shop: mf + ssm, seed 1",
    ]  # fmt: skip
    store = Store(out)
    assert tuned_settings(plan, method, store) == {"train.lr": 0.05}
    values = []
    for job in trials(plan, method):
        metrics = json.loads((store.folder(job) / "metrics.json").read_text())
        assert metrics["test"] is None and metrics["counts"]["test"] is None
        values.append(metrics["valid"]["ndcg@5"])
        assert store.load(job, ("ndcg@5",)).record["metrics"] == {"ndcg@5": values[-1]}
    assert values[1] > values[0]
    (row,) = aggregate(plan, [method], store)[0].rows
    assert row.seeds == 2 and row.tuned == {"train.lr": 0.05}


def test_a_trial_that_diverges_has_lost_and_a_run_that_does_stops_no_other(small, tmp_path):
    small |= {"models": "mf", "losses": ["bpr", "ssm"], "seeds": 1}
    small["tune"] = {"train.lr": [1.0e30, 0.05]}
    small["rules"] = [{"when": {"loss": "bpr"}, "tune": {"train.lr": [1.0e29, 1.0e30]}}]
    small["base"]["loss"] = {"similarity": "dot"}
    out = tmp_path / "out"
    plan, methods, failures, log = run(small, out)
    assert any("training diverged" in reason for reason in log.reasons)
    assert [f.job.title for f in failures] == ["shop: mf + bpr, seed 0"]
    assert failures[0].reason == "no trial of its tuning gave a result"
    rows = aggregate(plan, methods, Store(out))[0].rows
    assert [row.seeds for row in rows] == [0, 1] and rows[1].tuned == {"train.lr": 0.05}
    *_, log = run(small, out)
    assert log.titles == []  # the trials that lost are not tried again


def test_a_trial_that_could_not_be_done_is_told_as_such(small, tmp_path, monkeypatch):
    """Memory that was short is no lost trial: it is tried again, and nothing is chosen until then."""
    small |= {"models": "mf", "losses": "ssm", "seeds": 1, "tune": {"train.lr": [0.01, 0.05]}}
    real = attempt.train_run

    def short(config, *rest):
        if config.train.lr == 0.05:
            raise MemoryError
        return real(config, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(attempt, "train_run", short)
        *_, failures, _ = run(small, tmp_path / "out")
    assert [failure.reason for failure in failures] == [
        "out of memory", "1 of the 2 trials of its tuning could not be done",
    ]  # fmt: skip
    *_, failures, log = run(small, tmp_path / "out")
    assert failures == [] and log.titles == [
        "shop: mf + ssm, trial 2, seed 0",
        "shop: mf + ssm, seed 0",
    ]


def test_a_solution_that_lacked_memory_is_tried_again_and_one_that_is_none_has_lost(
    small, shop, tmp_path, monkeypatch
):
    """10 users make a matrix of 40 items of rank 10."""
    for path in shop.iterdir():
        pl.read_csv(path).filter(pl.col("user") < 10).write_csv(path)
    small |= {"models": "ease", "losses": "ssm", "seeds": 1, "tune": {"model.l2": [1e-30, 500.0]}}
    small["base"] = {"train": {"threads": 1}}
    real = EASE.solve

    def short(model):
        if model.config.l2 == 500.0:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")
        real(model)

    with monkeypatch.context() as patch:
        patch.setattr(EASE, "solve", short)
        *_, failures, log = run(small, tmp_path / "out")
    assert re.search("not positive-definite.*: model.l2=1e-30", log.reasons[0])
    assert [failure.reason for failure in failures] == [
        "ease: cannot be solved (DefaultCPUAllocator: can't allocate memory: you tried to ...); take a "
        "smaller catalogue",
        "1 of the 2 trials of its tuning could not be done",
    ]  # fmt: skip
    *_, failures, log = run(small, tmp_path / "out")
    assert failures == []
    assert log.titles == ["shop: ease, trial 2, seed 0", "shop: ease, seed 0"]


def test_a_missing_data_set_fails_its_own_runs_only(small, tmp_path):
    small |= {"models": "mf", "losses": "bpr", "seeds": 1}
    small["data"].insert(0, str(tmp_path / "nowhere.csv"))
    plan, methods, failures, _log = run(small, tmp_path / "out")
    (failure,) = failures
    assert failure.job.title == "nowhere: mf + bpr, seed 0" and "nowhere.csv" in failure.reason
    blocks = aggregate(plan, methods, Store(tmp_path / "out"))
    assert [block.rows[0].seeds for block in blocks] == [0, 1]


def test_data_that_changed_are_noticed(small, shop, tmp_path):
    small |= {"models": "mf", "seeds": 1}
    out = tmp_path / "out"
    run(small, out, only="bpr")
    write_tastes(shop, seed=9)
    plan, methods, _, _ = run(small, out)
    with pytest.raises(
        RunError, match=r"shop, seed 0: mf \+ ssm and mf \+ bpr were not measured on"
    ):
        aggregate(plan, methods, Store(out))
    shutil.rmtree(out / "results")
    *_, failures, _ = run(small, out, only="bpr")
    assert "was trained with other data than" in failures[0].reason


def test_data_that_changed_between_seeds_are_noticed(small, shop, tmp_path):
    """Every seed splits anew, so that the held-out pairs differ anyway."""
    small |= {"models": "mf", "losses": "bpr", "seeds": 1}
    out = tmp_path / "out"
    run(small, out)
    (train,) = shop.glob("train.*")
    rows = pl.read_csv(train)
    rows.head(len(rows) - 9).write_csv(train)
    plan, methods, _, _ = run(small | {"seeds": 2}, out)
    told = rf"mf \+ bpr, seed 0 .*train rows read {len(rows)}.* seed 1 .{len(rows) - 9}.*new folder"
    with pytest.raises(RunError, match=f"shop: the data changed between {told}"):
        aggregate(plan, methods, Store(out))


def test_damaged_results_are_named(small, tmp_path):
    small |= {"models": "mf", "losses": "bpr", "seeds": 1}
    out = tmp_path / "out"
    plan, methods, _, _ = run(small, out)
    (users,) = (out / "users").iterdir()
    users.write_bytes(b"PK")
    with pytest.raises(RunError, match=rf"{users.name}: not of use .*; delete it"):
        aggregate(plan, methods, Store(out))
    users.unlink()
    *_, log = run(small, out)
    assert len(log.titles) == 1 and users.exists()
    (result,) = (out / "results").iterdir()
    result.write_text("{")
    with pytest.raises(RunError, match=r"json: not of use"):
        aggregate(plan, methods, Store(out))


def test_a_later_version_may_add_settings_but_not_change_a_default(small, tmp_path):
    small |= {"models": "mf", "losses": "bpr", "seeds": 1}
    out = tmp_path / "out"
    _plan, _methods, _, _ = run(small, out)
    (path,) = (out / "results").iterdir()
    record = json.loads(path.read_text())
    del record["settings"]["train"]["lr_decay"]  # written before that setting was there
    path.write_text(json.dumps(record))
    *_, log = run(small, out)
    assert log.titles == []
    record["settings"]["train"]["l2"] = 0.5  # written when that was the default
    path.write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"train.l2: 0.5 then, 1e-05 now"):
        run(small, out)


def test_runs_older_than_ties_are_measured_again_where_their_split_is_the_same(
    small, shop, tmp_path
):
    small |= {"models": "mf", "losses": "bpr", "seeds": 1}
    out = tmp_path / "out"
    _, (method,), _, _ = run(small, out)
    path = Store(out).folder(run_of(method, 0, {})) / "config.yaml"
    record = yaml.safe_load(path.read_text())
    del record["settings"]["data"]["split"]["ties"]
    path.write_text(yaml.safe_dump(record))
    more = {**small, "metrics": ["ndcg@5", "mrr@3"]}
    *_, failures, log = run(more, out)
    assert failures == [] and len(log.ended) == 1
    write_tastes(shop, seed=9)
    shutil.rmtree(out / "results")
    *_, failures, _ = run(small, out)
    assert "was trained with data.split.ties: item then, auto now; delete it" in failures[0].reason


def test_only_chooses_by_title(small):
    plan = make_plan(small)
    methods = expand(plan)
    found = chosen(plan, methods, r"lightgcn.*seed 1")
    assert [(m.label, seed) for m, seed in found] == [("lightgcn + bpr", 1), ("lightgcn + ssm", 1)]
    assert chosen(plan, methods, "shop: lightgcn + ssm, seed 1") == found[1:]  # as it is printed
    with pytest.raises(ConfigError, match="--only gowalla: matches no run"):
        chosen(plan, methods, "gowalla")
    with pytest.raises(ConfigError, match="no regular expression"):
        chosen(plan, methods, "(")


def test_random_splits_differ_by_seed_and_still_pair(small, shop, tmp_path):
    """With one table and no time, each seed has a test part of its own; methods share it."""
    small["data"] = [{"source": str(shop / "train.csv"), "label": "one table"}]
    small["models"] = "mf"
    plan, methods, failures, _ = run(small, tmp_path / "out")
    store = Store(tmp_path / "out")
    held = [store.load(run_of(methods[0], seed, {}), plan.metrics).record["held_out_fingerprint"]
            for seed in (0, 1)]  # fmt: skip
    assert failures == [] and held[0] != held[1]
    assert 0 < aggregate(plan, methods, store)[0].rows[1].p <= 1


@pytest.mark.parametrize("protocol", ["valid", "refit"])
def test_the_chosen_trial_is_not_trained_again(small, tmp_path, protocol):
    """Only its second training under `refit` is; without the trial's folder all is, to the same numbers."""

    class Phases(Log):
        def __init__(self):
            super().__init__()
            self.begun = []

        def phase(self, name, epochs, device):
            self.begun.append(f"{self.titles[-1]}: {name}")

    small["base"]["train"] |= {"protocol": protocol, "metric": "ndcg@5"}
    grid = {"loss.temperature": [0.1, 0.5]}
    small |= {"models": "mf", "losses": {"name": "ssm", "tune": grid}}
    plan, methods, _, log = run(small, tmp_path / "kept", Phases())
    trial = [f"shop: mf + ssm, trial {n}, seed 0: select" for n in (1, 2)]
    second = ["refit"] if protocol == "refit" else []
    own = [f"shop: mf + ssm, seed 0: {phase}" for phase in second]
    other = [f"shop: mf + ssm, seed 1: {phase}" for phase in ("select", *second)]
    assert log.begun == [*trial, *own, *other]

    out = tmp_path / "alone"
    run(small, out)
    shutil.rmtree(out / "runs")
    for file in (out / "results").iterdir():
        if json.loads(file.read_text())["trial"] is None:
            file.unlink()
    run(small, out)
    for seed in (0, 1):
        job = run_of(methods[0], seed, tuned_settings(plan, methods[0], Store(out)))
        one, again = (load_run(Store(tmp_path / name).folder(job))[0] for name in ("kept", "alone"))
        assert one.config == again.config == job.config
        for key in ("test", "valid", "best_epoch", "epochs", "stopped", "protocol", "counts"):
            assert one.metrics[key] == again.metrics[key], key
        state, other_state = one.model.state_dict(), again.model.state_dict()
        assert all(torch.equal(state[name], other_state[name]) for name in state)
        phases = [(r["phase"], r["epoch"], r["loss"]) for r in one.history]
        assert phases == [(r["phase"], r["epoch"], r["loss"]) for r in again.history]
