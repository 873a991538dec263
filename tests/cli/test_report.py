"""`ssmrec report`: from run folders to a page."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import polars as pl
import pytest

from command_line import ssmrec


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """clicks.csv and the finished runs `mf` and `lightgcn` below runs/."""
    place = tmp_path_factory.mktemp("shop")
    random = np.random.default_rng(0)
    users = np.repeat([f"u{n}" for n in range(40)], 15)
    items = np.concatenate([random.choice(30, 15, replace=False) for _ in range(40)])
    pl.DataFrame({"user": users, "item": items, "ts": np.arange(600)}).write_csv(
        place / "clicks.csv"
    )
    for model, loss in (("mf", "bpr"), ("lightgcn", "ssm")):
        words = ["--model", model, "--loss", loss, "--epochs", "2", "--out", f"runs/{model}"]
        code, _, err = ssmrec(
            "train", "clicks.csv", *words, "--set", "train.batch_size=64", cwd=place
        )
        assert code == 0, err
    return place


def test_a_page_of_two_runs(folder):
    code, out, err = ssmrec(
        "report", "runs/mf", "runs/lightgcn", "--out", "new/page.html", cwd=folder
    )
    assert (code, out) == (0, "2 runs in new/page.html\n"), err
    text = (folder / "new/page.html").read_text()
    assert "2 runs on clicks.csv" in text
    metrics = json.loads((folder / "runs/mf/metrics.json").read_text())
    assert f"{metrics['test']['ndcg@20']:.4f}</" in text
    assert f"{metrics['reference']['best_possible']['recall@5']:.4f}</" in text


def test_the_page_among_the_runs_is_left_out_the_next_time(folder):
    code, out, _ = ssmrec("report", "runs/mf", "--out", "runs/report.html", cwd=folder)
    assert (code, out) == (0, "1 run in runs/report.html\n")
    words = ["runs/lightgcn", "runs/mf", "runs/report.html"]
    code, out, err = ssmrec("report", *words, "--out", "runs/report.html", cwd=folder)
    assert (code, out) == (0, "2 runs in runs/report.html\n")
    assert err == "runs/report.html is left out: it is a file\n"


def test_an_analysed_run_brings_its_popularity_groups(folder):
    shutil.copytree(folder / "runs/lightgcn", folder / "analysed")
    code, _, err = ssmrec("analyze", "analysed", "--groups", "4", cwd=folder)
    assert code == 0, err
    code, _, err = ssmrec("report", "analysed", "runs/mf", "--out", "groups.html", cwd=folder)
    assert code == 0, err
    text = (folder / "groups.html").read_text()
    assert "Popularity groups" in text and "Not analysed yet (ssmrec analyze): mf." in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "error: nowhere: does not exist; name run folders"),
        (["runs"], "error: runs: no run, but a folder of 2: name them as runs/*"),
        (
            ["clicks.csv"],
            "error: no finished run to report on: clicks.csv is left out: it is a file",
        ),
        (["runs/mf", "--out", "clicks.csv/x.html"], "error: clicks.csv/x.html: cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(folder, words, message):
    code, out, err = ssmrec("--quiet", "report", *words, cwd=folder)
    assert code == 2 and not out
    assert err.splitlines()[-1].startswith(message) and "Traceback" not in err


def test_a_comparison_without_run_folders_is_told_as_such(folder):
    words = ["--data", "clicks.csv", "--models", "mf", "--losses", "bpr", "--set", "train.epochs=1"]
    code, _, err = ssmrec("compare", *words, "--out", "c", cwd=folder)
    assert code == 0, err
    assert ssmrec("report", "c", "--out", "c.html", cwd=folder)[:2] == (0, "1 run in c.html\n")
    shutil.rmtree(folder / "c/runs")
    code, _, err = ssmrec("report", "c", "--out", "c.html", cwd=folder)
    assert code == 2 and err == (
        "error: c: a comparison without its run folders (c/runs): print its table with ssmrec compare PLAN "
        "--out c --no-run, or delete c/results and compare again, which trains the runs to report on\n"
    )


def test_without_plotly_the_error_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    code, _, err = ssmrec("report", "runs/mf", cwd=folder)
    assert code == 2 and "pip install 'ssmrec[report]'" in err
    assert not (folder / "report.html").exists()
