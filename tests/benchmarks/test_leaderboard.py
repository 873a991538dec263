"""The plan of the leaderboard is fair, and its page says what the results say."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ssmrec.compare import Outcome, Store, expand, make_plan, read_plan, run_of, trials
from ssmrec.evaluation import METRIC_VERSION
from ssmrec.losses import LOSSES
from ssmrec.training.pairs import mismatches

ROOT = Path(__file__).resolve().parents[2]
BACKBONES = ("mf", "lightgcn")


@pytest.fixture
def leaderboard(monkeypatch) -> ModuleType:
    """`benchmarks.leaderboard`; the folder beside `src` is not installed."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import leaderboard

    return leaderboard


@pytest.fixture(scope="module")
def methods():
    return expand(read_plan(ROOT / "experiments" / "leaderboard.yaml"))


def test_every_loss_has_three_trials_and_five_seeds_on_every_data_set(methods):
    plan = read_plan(ROOT / "experiments" / "leaderboard.yaml")
    assert len(plan.seeds) == 5
    assert {len(method.grid) for method in methods} == {3}
    for data in ("online-retail", "amazon-electronic", "amazon-movie", "ml-1m"):
        for model in BACKBONES:
            found = {m.loss for m in methods if (m.data, m.model) == (data, model)}
            assert found == {*LOSSES, "bpr cosine"}


def test_every_trial_differs_from_the_others_and_fits_its_ranking(methods):
    """Three values that are three trainings, and no pair of sampler and ranking that is warned of."""
    plan = read_plan(ROOT / "experiments" / "leaderboard.yaml")
    for method in (m for m in methods if m.data == "online-retail"):
        jobs = trials(plan, method)
        assert len({job.key for job in jobs}) == 3, method.label
        assert [mismatches(job.config) for job in jobs] == [[], [], []], method.label
        assert len({(*job.trial,) for job in jobs}) == 1  # one setting


def test_all_methods_share_everything_but_their_loss(methods):
    for method in (m for m in methods if m.model in BACKBONES):
        config = run_of(method, 0, {}).config
        train = config.train
        slow = method.loss in ("bce", "gbce", "bpr", "dpl")
        assert (train.batch_size, train.lr, train.l2) == (1024, 1e-3, 1e-5)
        assert train.epochs == (300 if slow else 100)
        refit = method.data in ("amazon-electronic", "amazon-movie")
        assert train.protocol == ("refit" if refit else "valid")
        waits = {"bc": 10, "advinfonce": 10, "gbce": 60}.get(method.loss, 20 if slow else 5)
        assert train.patience == waits
        assert config.model["dim"] == 64 and config.model.get("layers", 2) == 2


def outcome(values, train=6.0, tail=0.25):
    values = np.asarray(values, dtype=float)
    record = {
        "format": 1, "metric_version": METRIC_VERSION, "protocol": "valid", "selected_on": "valid",
        "best_epoch": 3, "epochs": 4, "seconds": {"train": train, "eval": 1.0, "epoch": 1.25},
        "metrics": {"recall@20": float(values.mean()) / 2, "ndcg@20": float(values.mean())},
        "held_out_fingerprint": "same", "settings": {}, "lists": {"tail_share": tail},
    }  # fmt: skip
    return Outcome(record, np.arange(len(values)), {"recall@20": values / 2, "ndcg@20": values})


@pytest.fixture
def made(leaderboard, tmp_path):
    """mf: sl better, bsl level, psl worse, bpr not run, ssm twice; lightgcn: nothing but psl; svd."""
    plan = make_plan({
        "data": {"source": "online-retail", "label": "amazon-electronic"},
        "models": ["mf", "lightgcn", "svd"],
        "losses": ["ssm", {"name": "bpr", "label": "bpr cosine"}, "sl", "bsl", "psl", "advinfonce"],
        "tune": {"train.lr": [1e-3, 2e-3, 3e-3]},
        "seeds": 2,
    })  # fmt: skip
    store = Store(tmp_path)
    base = np.random.default_rng(0).random(60) * 0.5
    runs = {
        "mf + ssm": [base, base + 0.02], "mf + sl": [base + 0.1], "mf + bsl": [base[::-1]],
        "mf + psl": [base * 0.5], "lightgcn + psl": [base], "svd": [base * 0.25],
    }  # fmt: skip
    for method in expand(plan):
        if method.label in runs:
            best = {"mf + ssm": 1, "mf + sl": 2}.get(method.label, 0)
            jobs = trials(plan, method)
            for job in jobs:
                job_outcome = outcome([0.5 if job.number == best + 1 else 0.1])
                store.save(job, Outcome(job_outcome.record))
            for seed, values in enumerate(runs[method.label]):
                store.save(run_of(method, seed, jobs[best].trial), outcome(values))
    return leaderboard.boards(plan, store), base


def test_rows_are_sorted_and_held_against_ssm_on_their_backbone(leaderboard, made):
    (mf, lightgcn), base = made
    assert [mf.name(row) for row in mf.done] == ["sl", "ssm", "bsl", "psl", "svd"]
    sl, ssm, *_, svd = mf.done
    assert ssm.mean("ndcg@20") == pytest.approx(base.mean() + 0.01) and ssm.change is None
    assert sl.change == pytest.approx(0.1 / base.mean())  # over the one seed that both have
    assert (sl.seeds, ssm.seeds, sl.holm) == (1, 2, pytest.approx(4 / 10_001))
    assert svd.change == pytest.approx(-0.75)
    assert [lightgcn.name(row) for row in lightgcn.done] == ["psl", "svd"]
    assert all(row.change is None for row in lightgcn.done)  # no reference yet
    assert (mf.finished, mf.planned) == (5, 12) and (lightgcn.finished, lightgcn.planned) == (1, 12)


def test_a_table_has_costs_tails_choices_and_what_is_missing(leaderboard, made):
    (mf, _), base = made
    lines = leaderboard.table(mf).splitlines()
    cells = [cell.strip() for cell in lines[4].strip("|").split("|")]
    half = (base.mean() + 0.1) / 2
    assert cells[:2] == ["`sl`", f"{half:.4f}"] and cells[2] == f"**{2 * half:.4f}**"
    assert cells[4:] == ["< 0.001", "1.25", "0.250", "lr=0.003 †", "1"]
    assert "| lr=0.002 | 2 |" in lines[5] and "±" in lines[5]
    assert lines[8].startswith("| `svd`, closed form |")
    assert "- INCOMPLETE: 5 of 12 runs; without any yet: `bpr cosine`, `advinfonce`" in lines
    assert "- protocol valid: epoch chosen on valid" in lines
    empty = leaderboard.Board("d", "mf", [], {}, 2)
    assert "INCOMPLETE: 0 of 0 runs." in leaderboard.table(empty)


def test_words_follow_the_test_and_not_the_mean(leaderboard, made):
    (mf, _), _ = made
    groups = leaderboard.compared(mf)
    assert groups == {
        "better": ["sl"], "not told apart": ["bsl"], "worse": ["psl"], "without a test": [],
    }  # fmt: skip
    said = leaderboard.verdict(made[0])
    assert said.startswith(
        "- amazon-electronic, mf (1 to 2 seeds): better: `sl`; not told apart: `bsl`; worse: `psl`.\n"
    )
    assert said.endswith(
        "In no table significantly better than well-tuned `ssm`** are `bsl`, `psl`.\n"
    )
    assert leaderboard.verdict([]) == "Nothing is finished yet.\n"


def test_ours_stand_beside_the_published_figures(leaderboard, made):
    boards, base = made
    lines = leaderboard.published(boards).splitlines()
    half, whole = (base.mean() + 0.1) / 2, base.mean() + 0.1
    assert (
        f"| amazon-electronic | mf | `sl` | 0.0821 | {half:.4f} | 0.0529 | {whole:.4f} "
        f"| {whole / 0.0529 - 1:+.1%} |".replace("% |", " % |")
    ) in lines
    assert "| amazon-electronic | lightgcn | `bsl` | 0.0823 | - | 0.0526 | - | - |" in lines
    assert lines[-1] == "INCOMPLETE: 4 of 10 rows."


def test_a_page_is_refreshed_between_its_marks_alone(leaderboard, made):
    boards, _ = made
    page = "Before.\n<!-- state -->\nold\n<!-- end -->\nAfter.\n<!-- amazon-electronic -->\n<!-- end -->\n"
    once = leaderboard.refreshed(page, boards)
    assert once.startswith("Before.\n<!-- state -->\n") and "old" not in once
    assert "\nAfter.\n" in once and "INCOMPLETE: 6 of 24 runs." in once
    assert once.count("### amazon-electronic, ") == 2
    assert leaderboard.refreshed(once, boards) == once


def test_the_page_has_a_part_for_every_data_set(leaderboard):
    plan = read_plan(leaderboard.PLAN)
    board, which = (
        {m["name"] for m in leaderboard.BLOCK.finditer(page.read_text())}
        for page in leaderboard.PAGES
    )
    assert which == {"verdict"}
    assert board == {"state", "verdict", "published", *(entry.label for entry in plan.data)}
