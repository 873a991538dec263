"""`ssmrec compare` from the command line, and a comparison that is killed."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
import yaml

from command_line import ssmrec
from ssmrec.cli import compare as verb
from ssmrec.compare.progress import duration


def compare(*words, cwd):
    return ssmrec("compare", *words, cwd=cwd)


def write_plan(place, epochs=2, **more):
    values = {
        "base": {"train": {"epochs": epochs, "batch_size": 128, "threads": 1}, "model": {"dim": 8}},
        "data": "clicks.csv",
        "models": ["mf", {"name": "lightgcn", "layers": 1}],
        "losses": ["bpr", {"name": "ssm", "temperature": 0.2}],
        "seeds": 2,
        **more,
    }
    (place / "plan.yaml").write_text(yaml.safe_dump(values))


@pytest.fixture
def place(tmp_path):
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(50), 20)
    items = np.concatenate([random.choice(60, 20, replace=False) for _ in range(50)])
    pl.DataFrame({"user": users, "item": items}).write_csv(tmp_path / "clicks.csv")
    write_plan(tmp_path)
    return tmp_path


FLAGS = ["--data", "clicks.csv", "--models", "mf,lightgcn", "--losses", "ssm,bpr",
         "--set", "train.epochs=1", "--set", "model.dim=8", "--set", "train.threads=1"]  # fmt: skip


def test_flags_make_a_table_in_every_format_and_run_once(place):
    code, out, err = compare(*FLAGS, "--seeds", "1", cwd=place)
    assert code == 0, err
    assert [line.split("  ")[0] for line in out.splitlines()[3:7]] == [
        "mf + ssm", "mf + bpr", "lightgcn + ssm", "lightgcn + bpr",
    ]  # fmt: skip
    assert err.count("[4/4] clicks: lightgcn + bpr, seed 0: recall@20 0.") == 1
    folder = place / "compare" / "quick"
    assert (folder / "table.md").read_text().startswith("### clicks\n")
    for form, sign in (("md", "| mf + ssm |"), ("latex", r"\toprule"), ("csv", "p_holm")):
        code, out, err = compare(*FLAGS, "--seeds", "1", "--format", form, cwd=place)
        assert code == 0 and sign in out and "[" not in err
    assert out == (folder / "table.csv").read_text()


def test_dry_run_lists_states_and_only_chooses(place):
    code, out, _ = compare("plan.yaml", "--out", "o", "--dry-run", cwd=place)
    assert code == 0 and len(re.findall("^missing ", out, re.M)) == 8 and not (place / "o").exists()
    code, _, err = compare("plan.yaml", "--out", "o", "--only", "mf . ssm, seed 1", cwd=place)
    assert code == 0, err
    code, out, _ = compare("plan.yaml", "--out", "o", "--dry-run", cwd=place)
    assert re.findall("^finished +(.*)$", out, re.M) == ["clicks: mf + ssm, seed 1"]
    assert out.endswith("8 runs, 1 finished; folder o\n")
    code, out, _ = compare("plan.yaml", "--out", "o", "--no-run", cwd=place)
    assert code == 0 and "INCOMPLETE: 1 of 8 runs" in out


def test_a_data_set_without_runs_is_left_out_and_a_missing_one_is_told(place):
    words = ["--data", "gone.csv,clicks.csv", "--models", "mf", "--losses", "bpr"]
    words += ["--set", "train.epochs=1", "--set", "train.threads=1"]
    code, out, err = compare(*words, "--only", "clicks", cwd=place)
    assert code == 0 and "gone" not in out + err and re.search(r"mf \+ bpr +0\.", out)
    code, out, err = compare(*words, cwd=place)
    assert code == 2 and out.startswith("clicks\n")
    assert "error: gone: mf + bpr, seed 0: " in err and "gone.csv" in err.splitlines()[-1]


def test_set_wins_over_the_plan_and_study_and_tune_are_read_as_yaml(place):
    words = ["--models", "svdpp", "--losses", "ssm", "--study", "model.alpha=[1,0],[0.5,0.5]",
             "--tune", "train.lr=1e-3,1e-2", "--set", "train.epochs=1"]  # fmt: skip
    code, out, err = compare("plan.yaml", *words, "--seeds", "1", "--dry-run", cwd=place)
    assert code == 0, err
    assert [line.split(": ")[1] for line in out.splitlines()[:-1]] == [
        f"svdpp + ssm, alpha={alpha}{trial}, seed 0"
        for alpha in ("[1, 0]", "[0.5, 0.5]")
        for trial in (", trial 1", ", trial 2", "")
    ]
    assert verb._grid("--tune", "train.lr=1e-3,1e-2") == ("train.lr", [0.001, 0.01])
    plan, name = verb._plan(place / "plan.yaml", {}, ["loss.temperature=0.3", "train.epochs=9"])
    from ssmrec.compare import expand, run_of

    config = run_of(expand(plan)[1], 0, {}).config
    assert (config.loss["temperature"], config.train.epochs, name) == (0.3, 9, "plan")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to compare: name a plan, or give --data, --models and --losses"),
        (["nothing.yaml"], "nothing.yaml: cannot be read"),
        (["plan.yaml", "--format", "html"], "unknown --format 'html'"),
        (["plan.yaml", "--only", "gowalla"], "--only gowalla: matches no run"),
        (["plan.yaml", "--study", "model.layers"], "--study model.layers: must look like"),
        (["plan.yaml", "--set", "train.epoch=3"], "did you mean 'train.epochs'"),
        (
            ["plan.yaml", "--baseline", "mf + bce"],
            "baseline: no method 'mf + bce' on clicks, did you",
        ),
        (["plan.yaml", "--test", "ttest"], "test: "),
        (["plan.yaml", "--seeds", "0", "--dry-run"], "at least 1, or a list of seeds (got 0)\n"),
        (["plan.yaml", "--losses", "smm"], "did you mean 'ssm'"),
        (["plan.yaml", "--out", "clicks.csv"], "clicks.csv: cannot be written"),
        (["plan.yaml", "--data", "gone.csv"], "gone.csv"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(place, words, message):
    code, _, err = compare(*words, cwd=place)
    assert code == 2 and message in err and "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("error: ")


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(place, monkeypatch):
    from ssmrec.compare.progress import CompareBars

    step = CompareBars.step

    def stopped(self, epoch, done, total, loss):
        if [number for _, number in self.begun.values()] == [3]:
            raise KeyboardInterrupt
        step(self, epoch, done, total, loss)

    with monkeypatch.context() as patch:
        patch.setattr(CompareBars, "step", stopped)
        code, out, err = compare("plan.yaml", "--out", "o", cwd=place)
    assert code == 130 and out == "" and "Traceback" not in err
    assert "interrupted: 2 of 8 runs are finished and kept in o; the same command goes on" in err
    code, out, err = compare("plan.yaml", "--out", "o", cwd=place)
    assert code == 0 and err.count("seed") == 6 and "INCOMPLETE" not in out


@pytest.mark.slow
def test_a_killed_comparison_goes_on_to_the_same_table(place):
    """SIGKILL after the first finished run, in a process of its own; then the same command."""
    write_plan(place, epochs=60)
    words = [sys.executable, "-m", "ssmrec", "compare", "plan.yaml", "--out", "broken"]
    with (place / "err.txt").open("w") as err:
        child = subprocess.Popen(words, cwd=place, stdout=subprocess.DEVNULL, stderr=err)
    try:
        end = time.monotonic() + 120
        while not list(place.glob("broken/results/*.json")):
            assert child.poll() is None and time.monotonic() < end, (place / "err.txt").read_text()
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -signal.SIGKILL
    first = len(list(place.glob("broken/results/*.json")))
    assert 1 <= first < 8
    code, out, err = compare("plan.yaml", "--out", "broken", "--format", "csv", cwd=place)
    assert code == 0, err
    assert len(re.findall(r"^\[\d/8\] .*recall", err, re.M)) == 8 - first
    code, whole, _ = compare("plan.yaml", "--out", "whole", "--format", "csv", cwd=place)
    assert code == 0 and out == whole and out.count("\n") == 9


def test_help_teaches(place):
    code, out, _ = compare("--help", cwd=place)
    assert code == 0
    for word in ("--study", "--tune", "--dry-run", "--no-run", "seeds 3", "goes on"):
        assert word in out


def test_durations():
    assert [duration(s) for s in (0.4, 59.4, 200, 7500)] == [
        "0 s",
        "59 s",
        "3 min 20 s",
        "2 h 5 min",
    ]


def test_data_that_nobody_has_are_told_once_and_without_an_empty_table(place):
    code, out, err = compare("--data", "nowhere", "--models", "mf", "--losses", "ssm", cwd=place)
    assert (
        code == 2 and out == "" and "nowhere: mf + ssm, seed 0: no file, folder or data set" in err
    )
    assert not (place / "compare/quick/table.md").exists()


def test_a_metric_is_added_to_those_of_the_plan(place):
    write_plan(place, epochs=1, models="mf", losses="bpr", seeds=1, metrics=["recall@5", "ndcg@5"],
               metric="ndcg@5")  # fmt: skip
    code, out, err = compare("plan.yaml", cwd=place)
    assert code == 0 and out.splitlines()[1].split()[:3] == ["method", "recall@5", "ndcg@5"], err
    code, out, err = compare("plan.yaml", "--metric", "recall@5", cwd=place)
    assert code == 0 and out.splitlines()[1].split()[:3] == ["method", "recall@5", "ndcg@5"]
    assert "[1/1]" not in err  # what is finished has it already
    code, out, err = compare("plan.yaml", "--metric", "hit@5", "--no-run", cwd=place)
    assert out.splitlines()[1].split()[:4] == ["method", "recall@5", "ndcg@5", "hit@5"]


def test_no_run_prints_all_that_is_on_file_and_keeps_the_tests(place):
    write_plan(place, epochs=1, models="mf", metrics=["recall@5", "ndcg@5"], metric="ndcg@5")
    code, whole, err = compare("plan.yaml", "--out", "o", cwd=place)
    assert code == 0, err
    only_print = ["plan.yaml", "--out", "o", "--no-run"]
    tests = place / "o/tests.json"
    kept = tests.read_text()
    tests.unlink()
    assert compare(*only_print, cwd=place)[:2] == (0, whole) and tests.read_text() == kept
    shutil.rmtree(place / "o/users")
    assert compare(*only_print, cwd=place)[:2] == (0, whole)

    code, out, _ = compare(*only_print, "--metric", "hit@5", cwd=place)
    rows = [line.split() for line in out.splitlines()[3:5]]
    assert code == 0 and all(row[-1] == "-" and row.count("±") == 2 for row in rows)
    assert "seeds: 2" in out and "INCOMPLETE" not in out
    assert "hit@5: 4 of 4 runs were finished without it; ssmrec compare without --no-run" in out
    code, out, err = compare("plan.yaml", "--out", "o", "--metric", "hit@5", cwd=place)
    assert code == 0 and "finished without it" not in out and err.count("hit@5 0.") == 4


def test_no_run_prints_from_a_folder_that_cannot_be_written(place):
    write_plan(place, epochs=1, models="mf", seeds=1)
    code, whole, err = compare("plan.yaml", "--out", "o", cwd=place)
    assert code == 0, err
    (place / "o/tests.json").unlink()
    (place / "o/tests.json.ssmrec.part").mkdir()  # where it would be written first
    assert compare("plan.yaml", "--out", "o", "--no-run", cwd=place)[:2] == (0, whole)
    assert not (place / "o/tests.json").exists()
    code, _, err = compare("plan.yaml", "--out", "o", cwd=place)
    assert code == 2 and "o: cannot be written" in err


@pytest.mark.parametrize("option", ["--study", "--tune"])
def test_a_key_that_is_given_twice_loses_no_value(place, option):
    words = [option, "model.dim=4", option, "model.dim=8", "--dry-run"]
    code, _, err = compare(*FLAGS, *words, cwd=place)
    assert code == 2 and f"{option} model.dim: is given twice; name all its values in one" in err
