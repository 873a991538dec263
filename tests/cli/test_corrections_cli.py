"""`--correct` of evaluate and recommend, closed forms and pools from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from command_line import ssmrec


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with clicks.csv, skips.csv, and finished runs of lightgcn (`run`) and ease (`ease`)."""
    place, random = tmp_path_factory.mktemp("shop"), np.random.default_rng(0)
    pairs = sorted(set(zip(random.integers(0, 40, 900).tolist(),
                           (random.zipf(1.5, 900) % 30).tolist(), strict=True)))  # fmt: skip
    lines = "".join(f"{user},{item}\n" for user, item in pairs)
    (place / "clicks.csv").write_text("user,item\n" + lines)
    own = set(pairs)
    skips = [(u, i) for u in range(40) for i in range(1, 12) if (u, i) not in own]
    (place / "skips.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u, i in skips))
    for out, words in (
        ("run", ["--model", "lightgcn", "--epochs", "2", "--set", "model.dim=8"]),
        ("ease", ["--model", "ease", "--set", "model.l2=10"]),
    ):
        words = ["train", "clicks.csv", "--out", out, "--set", "train.threads=1", *words]
        code, _, err = ssmrec(*words, cwd=place)
        assert code == 0, err
    return place


def test_evaluate_shows_both_and_what_it_costs(folder):
    code, out, err = ssmrec("evaluate", "run", "--correct", "tten:strength=0.5", cwd=folder)
    assert code == 0, err
    lines = out.splitlines()
    exposed = [line for line in lines if "mean popularity" in line]
    assert [line.partition(":")[0] for line in exposed] == [
        "lightgcn + ssm", "lightgcn + ssm, tten"]  # fmt: skip
    assert all("tail share" in line and "coverage" in line for line in exposed)
    assert sum("│ lightgcn + ssm" in line for line in lines) == 2


def test_json_names_the_correction(folder):
    code, out, _ = ssmrec("evaluate", "run", "--correct", "edge", "--json", cwd=folder)
    assert code == 0 and json.loads(out)["correct"] == "edge"
    _, plain, _ = ssmrec("evaluate", "run", "--json", cwd=folder)
    assert "correct" not in json.loads(plain)


def test_recommend_with_a_correction(folder):
    code, out, err = ssmrec(
        "recommend", "run", "-u", "3", "--top", "3", "--correct", "dap", cwd=folder
    )
    assert code == 0, err
    assert "rank" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "run", "--correct", "tenn"], "did you mean 'tten'"),
        (["recommend", "run", "--correct", "edge:alpha"], "must look like strength=0.5"),
        (["evaluate", "ease", "--correct", "tten"], "no item vectors"),
        (["evaluate", "ease", "--similarity", "cosine"], "similarity=dot"),
        (
            ["train", "clicks.csv", "--model", "ease", "--set", "model.max_items=9"],
            "model.max_items",
        ),
        (["train", "clicks.csv", "--negatives", "given"], "negatives.path"),
    ],
)
def test_errors_are_one_line(folder, words, message):
    code, _, err = ssmrec(*words, cwd=folder)
    assert code == 2 and message in err.splitlines()[-1] and "Traceback" not in err


def test_a_closed_form_says_how_it_came_about(folder):
    code, out, err = ssmrec("evaluate", "ease", cwd=folder)
    assert code == 0, err
    assert "│ ease " in out and "solved in closed form; ranked by dot" in out


def test_given_negatives_from_the_command_line(folder):
    words = ["train", "clicks.csv", "--negatives", "given", "--set", "negatives.path=skips.csv",
             "--model", "mf", "--loss", "bpr", "--epochs", "1", "--set", "train.threads=1",
             "--out", "given"]  # fmt: skip
    code, _, err = ssmrec(*words, cwd=folder)
    assert code == 0, err
    assert "are negatives" in err
