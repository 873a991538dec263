"""`ssmrec analyze`, in this process, on a small file."""

from __future__ import annotations

import json
import re
import shutil
import sys
from functools import partial

import numpy as np
import polars as pl
import pytest

from command_line import ssmrec as run
from ssmrec import Recommender, load
from ssmrec import split as split_pairs
from ssmrec.training import load_run

ssmrec = partial(run, columns="100")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with clicks.csv and two runs on it: `run` and, in the paper's setting, `paper`."""
    place = tmp_path_factory.mktemp("shop")
    random = np.random.default_rng(0)
    chances = np.arange(1, 31) / np.arange(1, 31).sum()
    users = np.repeat([f"u{n}" for n in range(40)], 15)
    items = np.concatenate([random.choice(30, 15, replace=False, p=chances) for _ in range(40)])
    frame = pl.DataFrame({"customer": users, "product": items, "ts": np.arange(600)})
    frame.write_csv(place / "clicks.csv")
    small = ["--epochs", 2, "--set", "model.dim=8", "--set", "train.batch_size=64"]
    paper = ["--set", "negatives.name=in_batch", "--set", "negatives.log_q=false"]
    for name, words in (("run", []), ("paper", [*paper, "--set", "ranking.similarity=dot"])):
        code, _, err = ssmrec("train", "clicks.csv", *small, *words, "--out", name, cwd=place)
        assert code == 0, err
    return place


@pytest.fixture(scope="module")
def compared(folder):
    """What `analyze run --against paper` prints and writes."""
    code, out, err = ssmrec(
        "analyze", "run", "--against", "paper", "--groups", 4, "--top", 5, cwd=folder
    )
    assert code == 0, err
    return out, json.loads((folder / "run/analysis.json").read_text())


def test_tables_show_the_numbers_of_the_file(compared):
    out, result = compared
    ours, popular, theirs = result["popularity"]["rankers"]
    assert [r["role"] for r in (ours, popular, theirs)] == ["run", "most_popular", "against"]
    for ranker in (ours, popular, theirs):
        line = next(x for x in out.splitlines() if x.startswith(ranker["label"] + "  "))
        assert (
            f"{ranker['recall']['total']:.4f}" in line and f"{ranker['ndcg']['total']:.4f}" in line
        )
    assert theirs["label"] == "lightgcn + ssm (paper)"
    assert "the chain is broken in 0 pairs" in out and "Both runs" in out
    assert len(result["popularity"]["groups"]) == 4 and result["settings"]["k"] == 5
    spread = result["negatives"]["stages"][-1]["ssm"]["effective"]
    assert f"{spread:.0f}" in out


def test_figures_agree_with_evaluate(folder, compared):
    _, result = compared
    code, out, _ = ssmrec("evaluate", "run", "--metric", "ndcg@5", "--json", cwd=folder)
    assert code == 0
    assert json.loads(out)["test"]["ndcg@5"] == pytest.approx(
        result["popularity"]["rankers"][0]["ndcg"]["total"]
    )


def test_the_page_lies_beside_the_file(folder, compared):
    pytest.importorskip("plotly")
    out, _ = compared
    assert "written: run/analysis.json, run/analysis.html" in out
    assert (folder / "run/analysis.html").read_text().startswith("<!doctype html>")


def test_files_go_where_they_are_asked_to(folder, tmp_path):
    code, out, err = ssmrec(
        "analyze", "paper", "--out", tmp_path / "a.json", "--html", tmp_path / "b.html", cwd=folder
    )
    pytest.importorskip("plotly")
    assert code == 0, err
    assert (tmp_path / "a.json").exists() and (tmp_path / "b.html").exists()
    assert not (folder / "paper/analysis.json").exists()
    assert f"written: {tmp_path}/a.json, {tmp_path}/b.html" in out


def test_without_plotly_the_tables_are_there_and_a_page_asked_for_is_an_error(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "plotly", None)  # an import of it fails, as when not installed
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    code, out, err = ssmrec("analyze", "run", "--out", tmp_path / "a.json", cwd=folder)
    assert code == 0 and "Ranking metric" in out and out.endswith("a.json\n"), err
    assert "no HTML page" in err and "ssmrec[report]" in err
    assert not (tmp_path / "a.html").exists()
    code, _, err = ssmrec("analyze", "run", "--html", tmp_path / "a.html", cwd=folder)
    assert code == 2 and "ssmrec[report]" in err


def test_tables_fit_a_terminal_of_80_columns(folder, tmp_path):
    code, out, _ = ssmrec("analyze", "run", "--out", tmp_path / "a.json", cwd=folder, columns="80")
    assert code == 0
    assert max(map(len, out.split("\nwritten")[0].splitlines())) <= 80
    assert "…" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "not a finished run"),
        (["run", "--on", "train"], "--on must be test or valid, not 'train'"),
        (["run", "--against", "nowhere"], "not a finished run"),
        (["run", "--data", "other.csv"], "the data differ from those the run was trained on"),
        (["run", "--out", "clicks.csv/a.json"], "cannot be written"),
    ],
)
def test_faults_are_one_line(folder, words, message):
    pl.read_csv(folder / "clicks.csv").head(500).write_csv(folder / "other.csv")
    code, _, err = ssmrec("analyze", *words, cwd=folder)
    last = err.strip().splitlines()[-1]
    assert code == 2 and last.startswith("error: ") and message in last and "Traceback" not in err


def test_a_run_on_other_data_is_no_rival(folder):
    random = np.random.default_rng(5)
    frame = pl.read_csv(folder / "clicks.csv")
    frame.with_columns(ts=pl.Series(random.permutation(600))).write_csv(folder / "shuffled.csv")
    words = ["--epochs", 1, "--set", "model.dim=8", "--out", "far"]
    assert ssmrec("train", "shuffled.csv", *words, cwd=folder)[0] == 0
    code, _, err = ssmrec("analyze", "run", "--against", "far", cwd=folder)
    assert code == 2 and "not judged on the same held-out pairs" in err


@pytest.mark.parametrize("option", ["--out", "--html"])
def test_a_place_that_cannot_be_written_is_told_before_the_work(folder, tmp_path, option):
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "page"
    code, out, err = ssmrec("-q", "analyze", "run", option, place, cwd=folder)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {place.parent}: cannot be written (")
    assert err.endswith("choose another --out\n") and len(err.splitlines()) == 1


def test_data_that_were_moved_are_asked_for(folder, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    for verb in ("analyze", "evaluate"):
        code, _, err = ssmrec("-q", verb, "run", cwd=tmp_path)
        assert code == 2 and err == (
            "error: clicks.csv: no such file; if the run's data were moved, name their place with "
            "--data\n"
        )
        code, _, err = ssmrec("-q", verb, "run", "--data", "no.csv", cwd=tmp_path)
        assert code == 2 and err == "error: no.csv: no such file\n"


@pytest.fixture(scope="module")
def elsewhere(folder):
    """Test pairs that the run did not have: 3 with ids it does not know, 2 that it knows, 4 others."""
    trained, _ = load_run(folder / "run")
    known = trained.train
    users, items = known.users.ids.to_list(), known.items.ids.to_list()
    old = [(users[user], items[item]) for user, item in zip(known.rows, known.indices, strict=True)]
    free = np.tile(known.item_degrees > 0, (len(users), 1))
    for part in (known, trained.seen):
        free[part.rows, part.indices] = False
    new = [(users[user], items[item]) for user, item in np.argwhere(free)[:4]]
    strange = [("stranger", items[0]), (users[0], 999), ("stranger", 999)]
    place = folder / "elsewhere"
    place.mkdir()
    for name, pairs in (("train", old[2:]), ("test", [*old[:2], *new, *strange])):
        frame = pl.DataFrame(pairs, schema=["user", "item"], orient="row")
        frame.write_csv(place / f"{name}.csv")
    return place


def test_figures_on_other_data_say_so_wherever_they_are_shown(folder, elsewhere, tmp_path):
    pytest.importorskip("plotly")
    shutil.copytree(folder / "run", tmp_path / "run")
    words = ("analyze", tmp_path / "run", "--data", "elsewhere", "--any-data")
    code, out, err = ssmrec(*words, cwd=folder)
    assert code == 0, err
    result = json.loads((tmp_path / "run/analysis.json").read_text())
    assert result["run"]["other_data"] == {
        "source": "elsewhere", "pairs": 9, "unknown": 3, "known": 2
    }  # fmt: skip
    note = result["notes"][0]
    assert note == (
        "measured on other data than the run's, the test part of elsewhere: of its 9 pairs 3 are left out "
        "because of ids the run does not know, and 2 because the run knows the pair"
    )
    assert f"note: {note}" in " ".join(out.split())
    page = (tmp_path / "run/analysis.html").read_text()
    assert note in page.replace("&#x27;", "'")
    assert "measured on other data (test of elsewhere), lists of 20" in page
    code, _, err = ssmrec("report", tmp_path / "run", "--out", tmp_path / "r.html", cwd=folder)
    assert code == 0, err
    titles = re.findall("<h3>([^<]*popularity[^<]*)</h3>", (tmp_path / "r.html").read_text())
    assert titles == [
        f"{metric}@20 on other data (test of elsewhere) by popularity of the items hit"
        for metric in ("ndcg", "recall")
    ]


def test_any_data_that_are_the_runs_own_are_no_other_data(folder, tmp_path):
    for more in (["--any-data"], ["--data", "clicks.csv", "--any-data"], []):
        code, _, err = ssmrec("analyze", "run", *more, "--out", tmp_path / "a.json", cwd=folder)
        assert code == 0, err
        result = json.loads((tmp_path / "a.json").read_text())
        assert result["run"]["other_data"] is None and "other data" not in str(result["notes"])


def test_a_user_who_knows_everything_there_is_leaves_nothing_to_analyse(command, tmp_path):
    (tmp_path / "one.csv").write_text("user,item\n" + "".join(f"1,{item}\n" for item in range(8)))
    assert command("train", "one.csv", "--epochs", "1", "--out", "run")[0] == 0
    code, _, err = command("analyze", "run")
    assert code == 2 and "every list is empty" in err and "Warning" not in err
    assert command("analyze", "run", "--groups", "101")[0] == 2


def test_a_run_trained_from_python_is_measured_on_the_data_it_was_split_from(folder):
    split = split_pairs(load(folder / "clicks.csv"))
    small = {"epochs": 1, "batch_size": 64}
    recommender = Recommender("mf", "ssm", train=small)
    recommender.fit(split.train, split.valid, progress=False).save(folder / "python")
    for command in ("evaluate", "analyze"):
        code, _, err = ssmrec(command, "python", "--data", "clicks.csv", cwd=folder)
        assert code == 0, err
    found = json.loads((folder / "python/analysis.json").read_text())["popularity"]["rankers"][0]
    assert found["ndcg"]["total"] == pytest.approx(
        recommender.evaluate(split.test).values["ndcg@20"]
    )
    (folder / "fewer.csv").write_text(
        "\n".join((folder / "clicks.csv").read_text().splitlines()[:-9])
    )
    code, _, err = ssmrec("analyze", "python", "--data", "fewer.csv", cwd=folder)
    assert code == 2 and "the data differ from those the run was trained on" in err


def test_notes_say_what_is_out_of_the_ordinary(folder):
    _, out, _ = ssmrec("analyze", "run", "--top", 50, cwd=folder)
    assert "lists of 50 are longer than the 29 items that can be listed" in " ".join(out.split())
    assert ssmrec("train", "clicks.csv", "--model", "ease", "--out", "ease", cwd=folder)[0] == 0
    _, out, _ = ssmrec("analyze", "ease", "--over-training", cwd=folder)
    assert "a closed form has no training to look at" in " ".join(out.split())


def test_who_chose_the_other_run_is_told(folder, tmp_path):
    """A run that had test choose its epoch, held against one that did not."""
    words = ["--epochs", 1, "--set", "model.dim=8", "--protocol", "published", "--out", "chosen"]
    assert ssmrec("train", "clicks.csv", *words, cwd=folder)[0] == 0
    html = tmp_path / "page.html"
    code, out, _ = ssmrec(
        "analyze",
        "run",
        "--against",
        "chosen",
        "--out",
        tmp_path / "a.json",
        "--html",
        html,
        cwd=folder,
    )
    assert code == 0 and "note: chosen: the epoch was chosen on TEST" in out
    assert "chosen: the epoch was chosen on TEST" in html.read_text()
