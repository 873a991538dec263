"""`ssmrec tune` from the command line, and a search that is killed."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import polars as pl
import pytest

from disks import small_disk
from ssmrec.cli import tune as verb
from ssmrec.errors import ConfigError

SMALL = ["--set", "train.batch_size=128", "--set", "train.threads=1", "--set", "model.dim=8"]


@pytest.fixture
def shop(tmp_path):
    """60 users in two groups over 40 items in clicks.csv; each group likes its half."""
    random = np.random.default_rng(0)
    taste = np.arange(60)[:, None] % 2 == np.arange(40)[None, :] // 20
    user, item = np.nonzero(random.random((60, 40)) < np.where(taste, 0.6, 0.05))
    pl.DataFrame({"user": user, "item": item}).write_csv(tmp_path / "clicks.csv")
    return tmp_path


def trials_of(folder):
    with (folder / "trials.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_dry_run_shows_the_space_and_trains_nothing(shop, command):
    code, out, _ = command(
        "tune", "clicks.csv", "--model", "mf", "--loss", "ccl", "--space", "model.dim=32,64",
        "--set", "train.lr=1e-3", "--dry-run",
    )  # fmt: skip
    assert code == 0 and not (shop / "runs").exists()
    assert [line.split("   starts with ") for line in out.splitlines()] == [
        ["train.l2     1e-06..0.1:log", "1e-05"],
        ["negatives.n  64..2048:log", "1024"],
        ["loss.margin  0.1..1", "0.6"],
        ["loss.weight  1..1000:log", "10.0"],
        ["model.dim    32, 64", "64"],
    ]


def test_a_search_needs_epochs_and_a_folder_without_a_run(shop, command):
    pytest.importorskip("optuna", reason="optuna is not installed")
    code, _, err = command("tune", "clicks.csv", "--epochs", "0", "--dry-run")
    assert code == 2 and "--epochs" in err and "1" in err.splitlines()[-1]
    words = ("train", "clicks.csv", "--model", "mf", *SMALL, "--epochs", "1", "--out", "run")
    assert command(*words)[0] == 0
    before = sorted(path.name for path in (shop / "run").iterdir())
    code, _, err = command("tune", "clicks.csv", "--model", "mf", *SMALL, "--out", "run")
    assert code == 2 and "run: holds a finished run; choose another --out" in err
    assert sorted(path.name for path in (shop / "run").iterdir()) == before


def test_a_search_its_files_its_end_and_its_final_run(shop, command):
    pytest.importorskip("optuna", reason="optuna is not installed")
    pytest.importorskip("plotly", reason="plotly is not installed")
    words = ["tune", "clicks.csv", "--model", "mf", "--loss", "ssm", "--epochs", "2", *SMALL]
    code, out, err = command(*words, "--trials", "3")
    assert code == 0, err
    folder = shop / "runs" / "tune-clicks-mf-ssm"
    lines = re.findall(
        r"^\[(\d)/3\] ndcg@20 0\.\d{4} in epoch \d of 2  (.*)  \(\d+ s, best", err, re.M
    )
    assert [number for number, _ in lines] == ["1", "2", "3"]
    assert lines[0][1] == "lr=0.001 l2=1e-05 temperature=0.2"
    assert out.startswith("3 trials (3 complete); best validation ndcg@20 0.")
    assert f"train them: ssmrec train --recipe {folder.relative_to(shop) / 'recipe.yaml'}" in out
    assert (folder / "search.html").exists() and "test" not in out
    first = trials_of(folder)

    code, out, err = command(*words, "--trials", "4", "--final")
    assert code == 0, err
    assert "3 trials (3 complete) were made before; best 0." in err and "[4/4]" in err
    assert err.count(" ndcg@20 0.") >= 1 and "[3/4]" not in err
    assert trials_of(folder)[:3] == first and len(trials_of(folder)) == 4
    assert (folder / "final" / "metrics.json").exists() and "best possible" in out

    code, again, err = command(*words, "--trials", "4", "--final")
    assert code == 0 and "select" not in err and "[" not in err
    assert "best possible" in again

    code, _, err = command("train", "--recipe", folder / "recipe.yaml", "--out", "o")
    assert code == 0, err
    code, out, err = command(*words, "--trials", "5", "--space", "loss.temperature=0.1..0.2")
    assert code == 2 and "space loss.temperature was 0.03..0.5:log, is 0.1..0.2" in err


def test_a_closed_form(shop, command):
    pytest.importorskip("optuna", reason="optuna is not installed")
    code, out, err = command("tune", "clicks.csv", "--model", "ease", "--trials", "3", "--out", "o")
    assert code == 0, err
    assert re.search(r"^\[1/3\] ndcg@20 0\.\d{4}  l2=500\.0  \(\d+ s, best", err, re.M)
    assert "model.l2" in out and "solved from" not in err


def test_without_plotly_there_is_no_picture_but_a_recipe(shop, command, monkeypatch):
    pytest.importorskip("optuna", reason="optuna is not installed")
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    code, out, err = command("tune", "clicks.csv", "--model", "ease", "--trials", "1", "--out", "o")
    assert code == 0 and "no picture of the search: HTML pages need plotly" in err
    assert (shop / "o" / "recipe.yaml").exists() and "picture" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to tune on"),
        (["gone.csv"], "gone.csv"),
        (["clicks.csv", "--space", "loss.temperature"], "--space loss.temperature: must look like"),
        (["clicks.csv", "--space", "loss.tmperature=0.1..0.2"], "did you mean 'loss.temperature'"),
        (
            ["clicks.csv", "--space", "train.lr=1..2", "--set", "train.lr=1"],
            "train.lr is fixed as well",
        ),
        (
            ["clicks.csv", "--space", "train.lr=1..2", "--space", "train.lr=2..3"],
            "--space train.lr: is given twice",
        ),
        (["clicks.csv", "--pruner", "medain"], "did you mean 'median'"),
        (["clicks.csv", "--timeout", "soon"], "--timeout soon: must look like 90s, 30m or 2h"),
        (["clicks.csv", "--set", "train.protocol=published"], "tuning chooses on validation"),
        (["clicks.csv", "--set", "data.split.valid=0"], "set data.split.valid=0.1"),
        (["clicks.csv", "--out", "clicks.csv"], "clicks.csv: cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(shop, command, words, message):
    pytest.importorskip("optuna", reason="optuna is not installed")
    code, _, err = command("tune", *words)
    assert code == 2 and message in err and "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("error: ")


def test_without_optuna_the_error_names_the_extra(shop, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = command("tune", "clicks.csv", "--model", "ease")
    assert code == 2 and "pip install 'ssmrec[tune]'" in err


def test_ctrl_c_keeps_the_trials_and_says_how_to_go_on(shop, command, monkeypatch):
    pytest.importorskip("optuna", reason="optuna is not installed")
    words = [
        "tune",
        "clicks.csv",
        "--model",
        "mf",
        "--epochs",
        "2",
        "--trials",
        "3",
        "--out",
        "o",
        *SMALL,
    ]
    step = verb.SearchBars.step

    def stopped(self, epoch, done, total, loss):
        if self.number == 2:
            raise KeyboardInterrupt
        step(self, epoch, done, total, loss)

    with monkeypatch.context() as patch:
        patch.setattr(verb.SearchBars, "step", stopped)
        code, out, err = command(*words)
    assert code == 130 and out == "" and "Traceback" not in err
    assert "interrupted: the trials that ended are kept in o; the same command goes on" in err
    assert len(trials_of(shop / "o")) == 1
    code, out, err = command(*words)
    assert (
        code == 0 and "1 trial (1 complete) were made before" in err and out.startswith("3 trials")
    )


def test_the_value_of_the_start_is_told_of_the_start_only(shop, command, monkeypatch):
    """Not when its process died three times, nor when the space lacks one of its settings."""
    pytest.importorskip("optuna", reason="optuna is not installed")
    words = ["tune", "clicks.csv", "--model", "mf", "--epochs", "1", "--trials", "3", *SMALL]

    def said(*more):
        code, out, err = command(*words, *more)
        assert code == 0, err
        return re.findall("^the settings it started from: (.*)$", out, re.M)

    def die(*_):
        raise SystemExit(9)

    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(verb.SearchBars, "step", die)
            assert command(*words, "--out", "died")[0] == 9
    assert said("--out", "died") == ["given up, as a trial with them was broken off three times"]
    assert said("--out", "less", "--space", "train.lr=0.1..0.2") == []
    assert said("--out", "whole", "--space", "train.lr=1e-4,1e-3,1e-2") == [
        f"{float(trials_of(shop / 'whole')[0]['ndcg@20']):.4f}"
    ]


@pytest.mark.slow
def test_a_killed_search_goes_on_to_the_same_trials(shop, command):
    """SIGKILL after the first trial, in a process of its own; then the same command."""
    pytest.importorskip("optuna", reason="optuna is not installed")
    words = ["tune", "clicks.csv", "--model", "mf", "--epochs", "25", "--trials", "3", *SMALL]
    with (shop / "err.txt").open("w") as err:
        child = subprocess.Popen(
            [sys.executable, "-m", "ssmrec", *words, "--out", "broken"],
            cwd=shop, stdout=subprocess.DEVNULL, stderr=err,
        )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while not (shop / "broken" / "trials.csv").exists():
            assert child.poll() is None and time.monotonic() < end, (shop / "err.txt").read_text()
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -signal.SIGKILL
    kept = trials_of(shop / "broken")
    assert 1 <= len(kept) < 3
    code, _, err = command(*words, "--out", "broken")
    assert code == 0, err
    code, _, err = command(*words, "--out", "whole")
    assert code == 0, err
    assert trials_of(shop / "broken") == trials_of(shop / "whole")
    assert trials_of(shop / "broken")[: len(kept)] == kept


def test_help_teaches(shop, command):
    code, out, _ = command("tune", "--help")
    assert code == 0
    for word in (
        "--space",
        "--final",
        "--dry-run",
        "--pruner",
        "temperature=0.05..0.5:log",
        "goes on",
    ):
        assert word in out


def test_times():
    assert [verb._seconds(text) for text in ("90", "90s", "1.5m", "2h")] == [90, 90, 90, 7200]
    for text in ("0s", "-1m", "m", "nan"):
        with pytest.raises(ConfigError, match=f"--timeout {text}"):
            verb._seconds(text)


def test_a_disk_that_fills_up(shop, command):
    """A real one; what fills it is deleted in the end."""
    pytest.importorskip("optuna", reason="optuna is not installed")
    words = ["tune", "clicks.csv", "--model", "mf", "--epochs", "2", *SMALL, "--out"]
    with small_disk(shop / "disk", 24_000) as place:
        assert command(*words, place / "search", "--trials", "1")[0] == 0
        kept = trials_of(place / "search")
        with suppress(OSError), (place / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        os.truncate(place / "filler", (place / "filler").stat().st_size - 4096)  # room to begin
        code, out, err = command(*words, place / "search", "--trials", "3")
        assert (code, out) == (2, "") and "Traceback" not in err
        assert err.splitlines()[-1] == (
            f"error: {place}/search/study.db: cannot be used as the memory of a search (database or disk is "
            "full); make room on the disk, and the same command goes on"
        )
        assert trials_of(place / "search") == kept
        (place / "filler").unlink()
        code, out, err = command(*words, place / "search", "--trials", "3")
        assert code == 0, err
        assert command(*words, "whole", "--trials", "3")[0] == 0
        assert trials_of(place / "search") == trials_of(shop / "whole")


def test_the_final_run_of_a_fixed_number_of_epochs_looks_at_test_once(shop, command):
    pytest.importorskip("optuna", reason="optuna is not installed")
    words = ["tune", "clicks.csv", "--model", "mf", "--loss", "ssm", "--epochs", "2", *SMALL,
             "--set", "train.protocol=fixed", "--trials", "1", "--final", "--out", "o"]  # fmt: skip
    code, first, err = command(*words)
    assert code == 0 and "train: at most" in err
    code, again, err = command(*words)
    assert code == 0 and "train: at most" not in err
    table = [line for line in first.splitlines() if "│" in line]
    assert table and table == [line for line in again.splitlines() if "│" in line]
