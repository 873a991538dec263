"""The numbers of a table by hand, and its four forms."""

from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pytest
import scipy.stats

from ssmrec.compare import FORMATS, Outcome, Store, aggregate, expand, make_plan, run_of, trials
from ssmrec.compare.formats import notes
from ssmrec.compare.store import Comparison
from ssmrec.compare.table import paired
from ssmrec.errors import RunError
from ssmrec.evaluation import METRIC_VERSION
from ssmrec.evaluation.significance import randomisation

PLAN = {
    "data": "online-retail",
    "models": ["mf", "svdpp", "lightgcn"],
    "losses": "ssm",
    "seeds": 2,
    "metrics": ["recall@20", "ndcg@20"],
}


def outcome(values, users=None, train=6.0, held="same"):
    values = np.asarray(values, dtype=float)
    record = {
        "format": 1, "metric_version": METRIC_VERSION, "protocol": "valid", "selected_on": "valid",
        "best_epoch": 3, "epochs": 4, "seconds": {"train": train, "eval": 1.0},
        "metrics": {"recall@20": float(values.mean()) / 2, "ndcg@20": float(values.mean())},
        "held_out_fingerprint": held, "settings": {},
    }  # fmt: skip
    users = np.arange(len(values)) if users is None else np.asarray(users)
    return Outcome(record, users, {"recall@20": values / 2, "ndcg@20": values})


def filled(tmp_path, values, more=None):
    """A store with made-up values: method number to seed to values of users."""
    plan = make_plan({**PLAN, **(more or {})})
    methods, store = expand(plan), Store(tmp_path)
    for number, seeds in values.items():
        for seed, each in seeds.items():
            store.save(run_of(methods[number], seed, {}), outcome(each))
    return plan, methods, store


@pytest.fixture
def made(tmp_path):
    random = np.random.default_rng(0)
    base = random.random((2, 40)) * 0.5
    better, worse = base + 0.1 + random.random((2, 40)) * 0.1, base - 0.001 * random.random((2, 40))
    values = {0: dict(enumerate(base)), 1: dict(enumerate(better)), 2: {0: worse[0]}}
    return (*filled(tmp_path, values), base, better, worse)


def test_mean_deviation_change_and_corrected_p(made):
    plan, methods, store, base, better, worse = made
    (block,) = aggregate(plan, methods, store)
    first, second, third = block.rows
    assert block.baseline == "mf + ssm" and first.p is first.change is None
    means = better.mean(axis=1)
    assert second.mean("ndcg@20") == pytest.approx(means.mean())
    assert second.sd("ndcg@20") == pytest.approx(abs(means[0] - means[1]) / 2**0.5)
    assert second.change == pytest.approx(better.mean() / base.mean() - 1)
    assert second.p == 1 / 10_001 and second.holm == 2 / 10_001
    # one seed: held against the baseline of that seed
    assert third.seeds == 1 and third.sd("ndcg@20") is None
    want = scipy.stats.ttest_rel(worse[0], base[0]).pvalue
    assert third.p == pytest.approx(want, abs=0.01) and third.holm == max(third.p, second.holm)
    assert second.cost == {"epoch": 1.5, "epochs": 3.0, "train": 6.0}


def test_a_test_is_remembered_while_its_results_stay(made, tmp_path):
    """The JSON files are kept and the users' values are not: p comes from the earlier test."""
    plan, methods, store, *_ = made
    (block,) = aggregate(plan, methods, store)
    assert Store(tmp_path).tested(Comparison("never", "tested", [], ())) is None
    store.save_tests()
    shutil.rmtree(tmp_path / "users")
    (again,) = aggregate(plan, methods, Store(tmp_path))
    assert [(row.p, row.holm) for row in again.rows] == [(row.p, row.holm) for row in block.rows]
    # a run of another outcome is not what was tested
    path = next((tmp_path / "results").glob("*svdpp*s1*"))
    record = json.loads(path.read_text())
    record["metrics"]["ndcg@20"] += 1e-12
    path.write_text(json.dumps(record))
    rows = aggregate(plan, methods, Store(tmp_path))[0].rows
    assert rows[1].p is None and rows[2].p == block.rows[2].p
    assert rows[2].holm == min(1, 2 * rows[2].p)  # the other one is still a comparison


def test_p_of_fewer_seeds_says_which_and_gives_way_to_one_of_more(made, tmp_path):
    plan, methods, store, base, better, _ = made
    full = aggregate(plan, methods, store)[0].rows[1].p  # not saved
    gone = next((tmp_path / "users").glob("*svdpp*s1*"))
    values = gone.read_bytes()
    gone.unlink()
    store = Store(tmp_path)
    (block,) = aggregate(plan, methods, store)
    second = block.rows[1]
    assert second.change == pytest.approx(better.mean() / base.mean() - 1)
    assert second.p == randomisation(better[0], base[0]) and second.p_seeds == (0,)
    assert "p of svdpp + ssm: seeds 0, whose users' values were kept" in notes(plan, block)
    store.save_tests()
    shutil.move(tmp_path / "users", tmp_path / "away")
    again = aggregate(plan, methods, Store(tmp_path))[0].rows[1]
    assert (again.p, again.p_seeds) == (second.p, (0,))
    shutil.move(tmp_path / "away", tmp_path / "users")
    gone.write_bytes(values)
    (block,) = aggregate(plan, methods, store := Store(tmp_path))
    assert (block.rows[1].p, block.rows[1].p_seeds) == (full, ())
    store.save_tests()
    gone.unlink()  # the test of all seeds counts
    assert aggregate(plan, methods, Store(tmp_path))[0].rows[1].p_seeds == ()
    assert not any(line.startswith("p of ") for line in notes(plan, block))


def test_p_of_earlier_seeds_stays_when_others_come_without_users(tmp_path):
    """The test of two seeds holds for these two of three; values that changed are not what was tested."""
    random = np.random.default_rng(3)
    base, better = random.random((3, 40)), random.random((3, 40)) + 0.1
    both = {0: dict(enumerate(base[:2])), 1: dict(enumerate(better[:2]))}
    plan, methods, store = filled(tmp_path, both)
    first = aggregate(plan, methods, store)[0].rows[1]
    store.save_tests()
    more = {0: dict(enumerate(base)), 1: dict(enumerate(better))}
    plan, methods, store = filled(tmp_path, more, {"seeds": 3})
    shutil.rmtree(tmp_path / "users")
    (block,) = aggregate(plan, methods, store)
    row = block.rows[1]
    assert (row.p, row.p_seeds, row.seeds) == (first.p, (0, 1), 3)
    assert "p of svdpp + ssm: seeds 0, 1, whose users' values were kept" in notes(plan, block)
    store.save_tests()
    assert aggregate(plan, methods, Store(tmp_path))[0].rows[1].p_seeds == (0, 1)
    store.save(run_of(methods[1], 1, {}), outcome(better[1] + 0.01))
    shutil.rmtree(tmp_path / "users")
    assert aggregate(plan, methods, Store(tmp_path))[0].rows[1].p is None


def test_change_and_p_are_of_the_seeds_that_both_have(tmp_path):
    """Over its own seeds the method looks worse than the baseline, on each shared one it is better."""
    easy, hard = 0.5 + np.arange(40) / 100, np.arange(40) / 100
    plan, methods, store = filled(
        tmp_path, {0: {0: easy}, 1: {0: easy + 0.05, 1: hard}, 2: {1: hard}}
    )
    (block,) = aggregate(plan, methods, store)
    first, second, third = block.rows
    assert second.mean("ndcg@20") < first.mean("ndcg@20") and second.seeds == 2
    assert second.change == pytest.approx(0.05 / easy.mean())
    assert second.p == 1 / 10_001 and second.holm == 2 / 10_001  # the third is a comparison too
    assert third.change is third.p is None and third.mean("ndcg@20") == pytest.approx(hard.mean())
    text = FORMATS["text"](plan, [block])
    assert "change and p: ndcg@20 against mf + ssm, over the seeds that both have; paired" in text
    assert next(x for x in text.splitlines() if x.startswith("lightgcn")).split()[5:] == [
        "-", "-", "1",
    ]  # fmt: skip


def test_a_footnote_names_shared_seeds_only_where_some_are_missing(tmp_path):
    values = np.arange(40) / 40
    plan, methods, store = filled(tmp_path, {key: {0: values, 1: values} for key in range(3)})
    text = FORMATS["text"](plan, aggregate(plan, methods, store))
    assert "change and p: ndcg@20 against mf + ssm; paired randomisation test" in text


def test_a_test_is_found_again_under_other_labels(made, tmp_path):
    plan, methods, store, *_ = made
    (block,) = aggregate(plan, methods, store)
    store.save_tests()
    shutil.rmtree(tmp_path / "users")
    label = {"label": "retail", "source": "online-retail"}
    names = [{"name": name, "label": name.upper()} for name in PLAN["models"]]
    renamed = make_plan({**PLAN, "data": label, "models": names})
    (again,) = aggregate(renamed, expand(renamed), Store(tmp_path))
    assert [row.label for row in again.rows] == ["MF + ssm", "SVDPP + ssm", "LIGHTGCN + ssm"]
    assert [(row.p, row.holm) for row in again.rows] == [(row.p, row.holm) for row in block.rows]
    # what was tested against another baseline is another test
    other = make_plan({**PLAN, "baseline": "svdpp + ssm"})
    assert {row.p for row in aggregate(other, expand(other), Store(tmp_path))[0].rows} == {None}


def test_damaged_tests_are_refused(made, tmp_path):
    plan, methods, _, *_ = made
    (tmp_path / "tests.json").write_text('{"x": 1}')
    with pytest.raises(RunError, match="tests.json: not of use"):
        aggregate(plan, methods, Store(tmp_path))


def test_seconds_are_those_of_one_device_a_cpu_first(tmp_path):
    plan, methods, store = filled(tmp_path, {}, {"models": ["mf", "svdpp"], "cost": True})
    took = {0: [("cpu", 6.0), ("GPU", 2.0)], 1: [("GPU", 2.0), ("GPU", 4.0)]}
    for number, runs in took.items():
        for seed, (device, train) in enumerate(runs):
            each = outcome([0.5, 0.25], train=train)
            each.record["device"] = device
            store.save(run_of(methods[number], seed, {}), each)
    (block,) = aggregate(plan, methods, store)
    assert [row.device for row in block.rows] == ["cpu", "GPU"]
    assert [row.cost["train"] for row in block.rows] == [6.0, 3.0]
    table = FORMATS["md"](plan, [block])
    assert "| on |" in table and "| GPU |" in table
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"](plan, [block]))))
    assert {line["device"] for line in lines} == {"cpu", "GPU"}


def test_wilcoxon_and_another_baseline(tmp_path):
    random = np.random.default_rng(1)
    a, b = random.random((2, 50)).astype(np.float32)
    plan, methods, store = filled(
        tmp_path, {0: {0: a}, 1: {0: b}},
        {"test": "wilcoxon", "baseline": "svdpp + ssm", "seeds": 1},
    )  # fmt: skip
    first, second, third = aggregate(plan, methods, store)[0].rows
    want = scipy.stats.wilcoxon(
        a.astype(float), b.astype(float), method="asymptotic", correction=False
    )
    assert first.p == pytest.approx(want.pvalue) == first.holm
    assert second.p is None and third.seeds == 0 and third.mean("ndcg@20") is None


def test_users_are_averaged_over_the_seeds_they_were_tested_in():
    one = {
        0: outcome([1.0, 0.0], users=[0, 2]),
        1: outcome([0.5, 0.25], users=[2, 3]),
        2: outcome([9]),
    }
    other = {0: outcome([0.0, 0.0], users=[0, 2]), 1: outcome([0.0, 1.0], users=[2, 3])}
    a, b = paired(one, other, "ndcg@20")
    assert a.tolist() == [1.0, 0.25, 0.25] and b.tolist() == [0.0, 0.0, 1.0]
    assert [len(x) for x in paired(one, {}, "ndcg@20")] == [0, 0]
    fewer = {0: outcome([0.75], users=[2])}  # user 0 was averaged by one of both only
    assert [x.tolist() for x in paired(one, fewer, "ndcg@20")] == [[0.0], [0.75]]


def test_text(made):
    text = FORMATS["text"](made[0], aggregate(*made[:3]))
    lines = text.splitlines()
    assert lines[0] == "online-retail"
    assert lines[1].split() == ["method", "recall@20", "ndcg@20", "change", "p", "seeds"]
    row = next(line for line in lines if line.startswith("svdpp + ssm "))
    assert " ± " in row and " < 0.001 " in row and row.endswith("2") and "+" in row
    assert len({len(line) for line in lines[1:6]}) == 1  # aligned, numbers to the right
    assert "INCOMPLETE: 5 of 6 runs" in lines
    assert "protocol valid: epoch chosen on valid" in lines


def test_without_the_values_of_users_the_change_stays(made, tmp_path):
    shutil.rmtree(tmp_path / "users")
    plan, methods, store = made[:3]
    lines = FORMATS["text"](plan, aggregate(plan, methods, store)).splitlines()
    assert lines[1].split() == ["method", "recall@20", "ndcg@20", "change", "seeds"]
    assert any(
        line.startswith("change: ndcg@20 against mf + ssm, over the seeds that both have; no p, as")
        for line in lines
    )


def test_a_metric_that_some_runs_lack_leaves_the_others_as_they_are(made, tmp_path):
    plan, methods, store, base, _, worse = made
    more = make_plan({**PLAN, "metrics": [*PLAN["metrics"], "hit@5"], "metric": "hit@5"})
    (first, second, third) = aggregate(more, methods, store)[0].rows
    assert first.mean("ndcg@20") == pytest.approx(base.mean()) and first.sd("recall@20") is not None
    assert first.mean("hit@5") is second.sd("hit@5") is second.change is third.p is None
    assert [row.seeds for row in (first, second, third)] == [2, 2, 1]
    said = (
        "hit@5: {} of 5 runs were finished without it; ssmrec compare without --no-run measures it"
    )
    assert said.format(5) in FORMATS["text"](more, aggregate(more, methods, store))
    # measured of the baseline's first seed and of the method that has no other
    for number, each in ((0, base[0]), (2, worse[0])):
        found = outcome(each)
        found.record["metrics"]["hit@5"] = float(each.mean())
        found.per_user["hit@5"] = each
        store.save(run_of(methods[number], 0, {}), found)
    blocks = aggregate(more, methods, store)
    third = blocks[0].rows[2]
    assert third.change == pytest.approx(worse[0].mean() / base[0].mean() - 1)
    assert third.p == aggregate(plan, methods, store)[0].rows[2].p
    assert said.format(3) in FORMATS["md"](more, blocks)
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"](more, blocks))))
    of = {line["method"]: line for line in lines if line["metric"] == "hit@5"}
    assert [line["seeds"] for line in of.values()] == ["1", "0", "1"]
    assert of["svdpp + ssm"]["mean"] == ""


def test_a_tuned_method_without_its_trials_says_why_it_has_no_run(tmp_path):
    more = {"models": "mf", "seeds": 1, "tune": {"loss.temperature": [0.1, 0.2]}}
    plan = make_plan({**PLAN, **more})
    text = FORMATS["text"](plan, aggregate(plan, expand(plan), Store(tmp_path)))
    assert "tuned methods without a run: their trials, which choose by ndcg@20, are not" in text


def test_markdown_marks_the_best(made):
    text = FORMATS["md"](made[0], aggregate(*made[:3]))
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert {len(row) for row in rows} == {6}
    assert [row[0] for row in rows if row[2].startswith("**")] == ["| svdpp + ssm"]


def test_latex_is_balanced_and_escaped(made):
    text = FORMATS["latex"](made[0], aggregate(*made[:3]))
    body = [line for line in text.splitlines() if not line.startswith("%")]
    rows = [line for line in body if line.endswith(r"\\")]
    assert len(rows) == 4 and {line.count(" & ") for line in rows} == {5}
    assert text.count(r"\textbf{") == 2 and r"$\pm$" in text and r"$<$ 0.001" in text
    for line in rows:
        assert line.replace(r"\%", "").count("%") == 0 and line.count("{") == line.count("}")


def test_csv_is_unrounded(made):
    plan, methods, store, _base, better, _ = made
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](plan, aggregate(plan, methods, store)))))
    assert len(rows) == 6
    row = next(r for r in rows if r["method"] == "svdpp + ssm" and r["metric"] == "ndcg@20")
    assert float(row["mean"]) == pytest.approx(better.mean(), rel=1e-12)
    assert (
        float(row["p_holm"]) == 2 / 10_001 and row["baseline"] == "mf + ssm" and row["seeds"] == "2"
    )
    recall = next(r for r in rows if r["method"] == "svdpp + ssm" and r["metric"] == "recall@20")
    assert recall["p"] == "" and float(recall["mean"]) == pytest.approx(better.mean() / 2)


def test_cost_columns_and_tuned_settings_are_shown(tmp_path):
    more = {"models": "mf", "seeds": 1, "cost": True, "tune": {"loss.temperature": [0.1, 0.2]}}
    plan = make_plan({**PLAN, **more})
    (method,) = expand(plan)
    store = Store(tmp_path)
    for job, value in zip(trials(plan, method), (0.3, 0.4), strict=True):
        store.save(job, Outcome(outcome([value]).record))
    store.save(run_of(method, 0, {"loss.temperature": 0.2}), outcome([0.5], train=1234.0))
    text = FORMATS["text"](plan, aggregate(plan, [method], store))
    assert text.splitlines()[1].split()[-4:] == ["s/epoch", "epoch", "train", "s"]
    assert text.splitlines()[3].split()[-3:] == ["308", "3", "1,234"]
    assert "tuned on validation ndcg@20, seed 0:\n  mf + ssm: temperature=0.2" in text


def test_a_choice_on_test_is_shown_with_a_warning(tmp_path):
    plan, methods, store = filled(tmp_path, {}, {"models": "mf", "seeds": 1})
    found = outcome([0.5])
    found.record.update(protocol="published", selected_on="test")
    store.save(run_of(methods[0], 0, {}), found)
    assert "WARNING: chosen on TEST" in FORMATS["md"](plan, aggregate(plan, methods, store))
