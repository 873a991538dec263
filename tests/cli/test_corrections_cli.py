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
    assert [line.partition(": in lists of 20, ")[0] for line in exposed] == [
        "lightgcn + ssm, ranked by cosine",
        "tten:strength=0.5, ranked by dot of the corrected vectors",
    ]
    assert all("tail share" in line and "coverage" in line for line in exposed)
    assert sum("│ lightgcn + ssm " in line or "│ tten:strength=0.5 " in line for line in lines) == 2


def test_json_holds_the_run_and_every_correction_with_what_the_text_shows(folder):
    words = ["evaluate", "run", "--correct", "edge", "--correct", "dap:strength=0.3"]
    code, out, err = ssmrec(*words, "--json", cwd=folder)
    assert code == 0, err
    found = json.loads(out)
    plain = json.loads(ssmrec("evaluate", "run", "--json", cwd=folder)[1])
    assert {**plain, "lists": found["lists"], "corrected": found["corrected"]} == found
    assert "corrected" not in plain and found["similarity"]["rank"] == "cosine"
    ranks = {name: each["rank"] for name, each in found["corrected"].items()}
    assert ranks == {"edge": "dot", "dap:strength=0.3": "cosine"}
    text = ssmrec(*words, cwd=folder)[1]
    for each in (found, *found["corrected"].values()):
        assert f"{each['test']['ndcg@20']:.4f}" in text
        lists = each["lists"]
        assert (
            f": in lists of 20, mean popularity {lists['mean_popularity']:,.1f}, tail share "
            f"{lists['tail_share']:.4f}, coverage {lists['coverage']:.4f}"
        ) in text
    assert found["corrected"]["edge"]["test"] != found["test"]


def test_the_similarity_asked_for_ranks_what_has_no_lengths_of_its_own(folder):
    words = ["evaluate", "run", "--similarity", "dot", "--correct", "tten:strength=0"]
    found = json.loads(ssmrec(*words, "--correct", "dap", "--json", cwd=folder)[1])
    assert found["similarity"]["rank"] == found["corrected"]["dap"]["rank"] == "dot"
    assert found["corrected"]["tten:strength=0"]["test"] == found["test"]
    assert found["corrected"]["tten:strength=0"]["lists"] == found["lists"]


def test_a_correction_that_cannot_be_is_refused_before_data_are_read(folder):
    """The last word names data that do not exist: reading them would be the error."""
    for words, message in (
        (["run", "--correct", "edge", "--correct", "edgy"], "unknown correction 'edgy', did you mean 'edge'"),
        (["nowhere", "--correct", "edgy"], "unknown correction"),
        (["ease", "--correct", "edge"], "no item vectors"),
    ):  # fmt: skip
        code, out, err = ssmrec("-q", "evaluate", *words, "--data", "no.csv", cwd=folder)
        assert (code, out) == (2, "") and message in err and len(err.splitlines()) == 1


def test_analyze_shows_the_trade_of_all_corrections(folder):
    code, out, err = ssmrec(
        "analyze", "run", "--corrections", "--top", "5", "--groups", "3", cwd=folder, columns="80"
    )
    assert code == 0, err
    assert max(map(len, out.split("\nwritten")[0].splitlines())) <= 80
    result = json.loads((folder / "run/analysis.json").read_text())["corrections"]
    asked = [point["asked"] for line in result["lines"] for point in line["points"]]
    assert len(asked) == 15 and "tten:strength=0.25" in asked and "edge:strength=1" in asked
    table = out.partition("Corrections of popularity")[2]
    words = [word for name in asked[1::4] for word in ("--correct", name)]
    json_text = ssmrec(
        "evaluate",
        "run",
        *words,
        "--metric",
        "ndcg@5",
        "--metric",
        "recall@5",
        "--json",
        cwd=folder,
    )[1]
    found = json.loads(json_text)
    for line in result["lines"]:
        for point in line["points"]:
            row = next(row for row in table.splitlines() if row.startswith(point["asked"] + " "))
            assert f"{point['ndcg']:.4f}" in row and f"{point['mean_popularity']:,.1f}" in row
            if point["asked"] in found["corrected"]:
                both = found["corrected"][point["asked"]]
                assert point["ndcg"] == pytest.approx(both["test"]["ndcg@5"])
                assert point["recall"] == pytest.approx(both["test"]["recall@5"])
                for key in ("mean_popularity", "tail_share", "coverage", "gini"):
                    assert point[key] == pytest.approx(both["lists"][key])


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
