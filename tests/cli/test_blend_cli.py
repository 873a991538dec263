"""`ssmrec blend`: from two folders to a third, which every other verb takes."""

from __future__ import annotations

import json
import re

import polars as pl
import pytest

from ssmrec.reporting.progress import ProgressBars


@pytest.fixture
def two_runs(command, tmp_path, tastes):
    """Folders `mf` and `svd` of runs over `clicks.csv`."""
    known = tastes.known
    pl.DataFrame(
        {"user": known.users.ids[known.rows], "item": known.items.ids[known.indices]}
    ).write_csv(tmp_path / "clicks.csv")
    for model in ("mf", "svd"):
        given = ("--set", "model.dim=4", *(("--epochs", "2") if model == "mf" else ()))
        code, _, err = command("train", "clicks.csv", "--model", model, *given, "--out", model)
        assert code == 0, err


def test_a_blend_is_a_run_like_any_other(command, tmp_path, two_runs):
    code, out, err = command("blend", "mf", "svd", "--out", "both")
    assert code == 0, err
    assert "a blend, chosen on valid; ranked by dot" in out and "run folder: both" in out
    assert "mf + ssm" in out and "svd" in out  # what it is made of
    code, out, err = command("evaluate", "both", "--json")
    assert code == 0, err
    told = json.loads((tmp_path / "both" / "metrics.json").read_text())
    measured = json.loads(out)["test"]
    for name, value in measured.items():
        assert value == pytest.approx(told["test"][name], rel=1e-6)
    for verb in (["recommend", "both", "--users", "100"], ["similar", "both", "100"],
                 ["recommend", "both", "--liked", "100", "--liked", "101"]):  # fmt: skip
        code, out, err = command(*verb)
        assert code == 0, err
    code, _, err = command("blend", "mf", "svd", "--out", "both")
    assert code == 2 and "--overwrite" in err
    for folder in ("mf", "mf/more"):
        code, _, err = command("blend", "mf", "svd", "--out", folder, "--overwrite")
        assert code == 2 and "is one of the runs" in err
    code, out, err = command("analyze", "both")
    assert code == 0 and "analyze its models, trained alone" in out + err
    code, _, err = command("update", "both", "clicks.csv", "--out", "more")
    assert code == 0 and "part 2 of 2" in err, err
    code, _, err = command("train", "clicks.csv", "--model", "blend")
    assert code == 2 and "made of finished runs" in err


def test_a_part_whose_epoch_was_chosen_on_test_is_told_by_every_verb(command, tmp_path, two_runs):
    pytest.importorskip("plotly", reason="plotly is not installed")
    words = ("--model", "mf", "--epochs", "2", "--set", "model.dim=4", "--protocol", "published")
    assert command("train", "clicks.csv", *words, "--out", "p")[0] == 0
    words = ("--model", "svd", "--set", "model.dim=4", "--protocol", "fixed")
    assert command("train", "clicks.csv", *words, "--out", "f")[0] == 0
    assert command("blend", "f", "p", "--weights", "1,1", "--out", "both")[0] == 0
    assert "epoch chosen on TEST" in command("evaluate", "both")[1]
    code, out, err = command("analyze", "both")
    assert code == 0, err
    told = "the epoch of a part was chosen on TEST (protocol published): not an honest estimate"
    assert f"note: {told}" in out and told in (tmp_path / "both/analysis.html").read_text()
    assert json.loads((tmp_path / "both/analysis.json").read_text())["run"]["warning"] == told
    assert command("report", "both", "p", "f", "--out", "r.html")[0] == 0
    remarks = re.findall(r"class=remark>([^<]*)<", (tmp_path / "r.html").read_text())
    assert remarks == ["a part&#x27;s epoch chosen on TEST", "epoch chosen on TEST"] * 2


def test_a_blend_of_what_was_broken_off_says_so(command, monkeypatch, two_runs):
    begun = []

    def stop(_bars: object, epoch: int, *_: object) -> None:
        begun.append(epoch)
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressBars, "step", stop)
        words = ("--model", "mf", "--set", "model.dim=4", "--epochs", "9")
        assert command("train", "clicks.csv", *words, "--out", "half")[0] == 130
    assert begun[-1] == 2
    for verb in (
        ("blend", "half", "svd", "--weights", "1,1", "--out", "both"),
        ("evaluate", "both"),
    ):
        code, out, err = command(*verb)
        assert code == 0, err
        assert "INTERRUPTED: of mf + ssm the best model until then" in out


def test_words_that_are_no_weights(command, two_runs):
    for words in ("a,b", "1", "1,0"):
        code, _, err = command("blend", "mf", "svd", "--out", "both", "--weights", words)
        assert code == 2 and "weights" in err and "Traceback" not in err
    code, _, err = command("blend", "mf", "none", "--out", "both")
    assert code == 2 and "none" in err


def test_data_that_changed_are_refused(command, tmp_path, two_runs):
    rows = pl.read_csv(tmp_path / "clicks.csv")
    rows.head(len(rows) - 5).write_csv(tmp_path / "clicks.csv")
    code, _, err = command("blend", "mf", "svd", "--out", "both")
    assert code == 2 and "the data differ" in err and "name the weights" in err
    assert not (tmp_path / "both").exists()
    code, _, err = command("blend", "mf", "svd", "--out", "both", "--weights", "1,1")
    assert code == 0 and "nothing is measured: clicks.csv: the data differ" in err
    assert command("recommend", "both", "--users", "100")[0] == 0


def test_moved_data_are_found_again(command, tmp_path, two_runs):
    (tmp_path / "clicks.csv").rename(tmp_path / "moved.csv")
    code, _, err = command("blend", "mf", "svd", "--out", "both", "--data", "moved.csv")
    assert code == 0, err
    assert command("evaluate", "both")[0] == 0
