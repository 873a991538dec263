"""What `ssmrec train` leaves behind when it is stopped, has nothing to do, or is asked the impossible."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import yaml

from ssmrec.blending import budget
from ssmrec.reporting.progress import ProgressBars


@pytest.fixture
def clicks(tmp_path):
    random = np.random.default_rng(0)
    users = np.repeat([f"u{n}" for n in range(40)], 12)
    items = np.concatenate([random.choice(30, 12, replace=False) for _ in range(40)])
    pl.DataFrame({"user": users, "item": items}).write_csv(tmp_path / "clicks.csv")
    return tmp_path


def test_ctrl_c_before_the_first_epoch_ends_leaves_the_old_run_alone(clicks, command, monkeypatch):
    train = ("train", "clicks.csv", "--model", "mf", "--epochs", "2", "--out", "run")
    assert command(*train)[0] == 0
    (clicks / "run" / "analysis.json").write_text("{}")
    before = {path.name: path.read_bytes() for path in (clicks / "run").iterdir()}

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressBars, "step", stop)
        code, _, err = command(*train, "--overwrite")
    assert code == 130 and "nothing is written to run; start again" in err
    assert {path.name: path.read_bytes() for path in (clicks / "run").iterdir()} == before
    assert command(*train, "--overwrite")[0] == 0  # a new run: the old analysis is not its own
    assert not (clicks / "run" / "analysis.json").exists()


def test_a_search_that_ctrl_c_ended_is_resumed_from_its_beginning(clicks, command, monkeypatch):
    """Where nothing was trained yet there is no checkpoint, and the run that is kept is no finished one."""
    train = ("train", "clicks.csv", "--budget", "60s", "--epochs", "1", "--out", "run")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(budget._Search, "solve_svd", stop)
        code, out, err = command(*train)
    assert code == 130 and "INTERRUPTED" in out
    assert command(*train)[0] == 2  # it is not replaced by mistake
    code, out, err = command(*train, "--resume")
    assert code == 0 and "holds no checkpoint: training starts from the beginning" in err, err
    assert "INTERRUPTED" not in out
    code, _, err = command(*train, "--resume")
    assert code == 2 and "holds a finished run" in err


def test_a_blend_of_an_interrupted_search_is_no_closed_form(clicks, command, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(budget._Search, "refit", stop)
    words = ("--budget", "60s", "--epochs", "1", "--protocol", "refit", "--out", "run")
    code, out, _ = command("train", "clicks.csv", *words)
    model = yaml.safe_load((clicks / "run/config.yaml").read_text())["settings"]["model"]
    assert code == 130 and "INTERRUPTED" in out
    assert ("a blend, chosen on valid" in out) == (model["name"] == "blend")


def test_no_epochs_are_told(clicks, command):
    code, out, err = command("train", "clicks.csv", "--epochs", "0", "--out", "run")
    assert code == 0 and "train.epochs=0: nothing is learned" in out + err


def test_nothing_to_resume_is_told(clicks, command):
    code, _, err = command("train", "clicks.csv", "--epochs", "1", "--resume", "--out", "run")
    assert code == 0 and "run holds no checkpoint: training starts from the beginning" in err


def test_a_ranking_the_model_cannot_do_is_refused_before_it_is_solved(clicks, command):
    words = ("--model", "ease", "--set", "ranking.similarity=cosine", "--out", "run")
    code, out, err = command("train", "clicks.csv", *words)
    assert code == 2 and "ranking.similarity=cosine: ease ranks by scores of its own" in err
    assert "solved" not in out + err and not (clicks / "run").exists()


def test_a_training_that_fails_leaves_no_empty_folder(clicks, command):
    (clicks / "bad.csv").write_text("user,item\n,\n")
    assert command("train", "bad.csv", "--out", "bad")[0] == 2
    assert not (clicks / "bad").exists()
    (clicks / "notes").mkdir()
    (clicks / "notes/mine.txt").touch()
    assert command("train", "bad.csv", "--out", "notes")[0] == 2
    assert [path.name for path in (clicks / "notes").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("strategy", ["last", "random"])
def test_a_run_older_than_ties_is_measured_without_advice_on_its_split(clicks, command, strategy):
    rows = pl.read_csv(clicks / "clicks.csv").with_columns(timestamp=7)
    rows.write_csv(clicks / "baskets.csv")
    by_item = ["data.split.ties=item"] if strategy == "last" else []
    words = [f"data.split.strategy={strategy}", *by_item]
    train = ("train", "baskets.csv", "--model", "mf", "--epochs", "1", "--out", "run")
    assert command(*train, *(word for setting in words for word in ("--set", setting)))[0] == 0
    path = clicks / "run" / "config.yaml"
    record = yaml.safe_load(path.read_text())
    del record["settings"]["data"]["split"]["ties"]
    path.write_text(yaml.safe_dump(record))
    code, out, err = command("evaluate", "run")
    assert code == 0 and "data.split.ties" not in out + err


def test_without_a_test_part_lists_hold_nothing_a_user_has(clicks, command):
    whole = ("--set", "data.split.test=0", "--out", "run", "--overwrite")
    train = ("train", "clicks.csv", "--model", "svd", "--set", "model.dim=4")
    code, out, err = command(*train, *whole, "--protocol", "refit")
    assert code == 0, err
    assert "validation, lists of" in out and "test, lists of" not in out
    asked = ("recommend", "run", "--all", "--top", "5", "--out", "lists.csv")
    code, out, err = command(*asked)
    assert code == 0 and "held out for test" not in out + err
    lists = pl.read_csv(clicks / "lists.csv").select("user", "item")
    bought = pl.read_csv(clicks / "clicks.csv").unique()
    assert len(lists) == 200 and lists.join(bought, on=["user", "item"]).is_empty()
    code, _, err = command("evaluate", "run")
    assert code == 2 and err.rstrip().endswith("clicks.csv: has no test part")
    code, _, err = command("evaluate", "run", "--on", "valid")
    assert code == 2 and "the model was trained on the validation pairs too" in err
    code, out, err = command(*train, *whole, "--protocol", "fixed")
    assert code == 0 and "no pairs are held out: nothing is measured" in out, err
    assert command(*train, "--out", "run", "--overwrite")[0] == 0
    code, out, err = command(*asked)
    assert code == 0 and "the 80 pairs held out for test are not known to the run" in out + err
