"""The command line end to end, in a process of its own, on a small file."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from command_line import ssmrec
from ssmrec.data import load, prepare
from ssmrec.errors import RunError
from ssmrec.evaluation import METRIC_VERSION
from ssmrec.recommender import Recommender


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder (with a space in its name) holding clicks.csv and a finished run."""
    place = tmp_path_factory.mktemp("a shop")
    random = np.random.default_rng(0)
    users = np.repeat([f"u{n}" for n in range(40)], 15)
    items = np.concatenate([random.choice(30, 15, replace=False) for _ in range(40)])
    frame = pl.DataFrame({"customer": users, "product": items, "ts": np.arange(600)})
    frame.write_csv(place / "clicks.csv")
    code, out, err = ssmrec(
        "train", "clicks.csv", "--model", "lightgcn", "--loss", "ssm", "--epochs", "2",
        "--set", "loss.temperature=0.14", "--set", "train.batch_size=64", "--out", "run", cwd=place,
    )  # fmt: skip
    assert code == 0, err
    assert "run folder: run" in out and "most popular" in out
    assert "columns user=customer, item=product, timestamp=ts" in err
    return place


def test_train_writes_what_the_readme_promises(folder):
    names = {path.name for path in (folder / "run").iterdir()}
    assert names == {
        "config.yaml", "history.jsonl", "ids.parquet", "metrics.json", "model.safetensors",
    }  # fmt: skip
    metrics = json.loads((folder / "run/metrics.json").read_text())
    assert 0 <= metrics["test"]["recall@20"] <= 1 and 0 <= metrics["valid"]["ndcg@20"] <= 1
    assert metrics["metric_version"] == METRIC_VERSION
    assert metrics["selected_on"] == "valid" and metrics["best_epoch"] in (1, 2)
    assert set(metrics["seconds"]) == {"train", "eval"}
    assert metrics["similarity"] == {"train": "cosine", "rank": "cosine"}


def test_evaluate_gives_the_numbers_of_the_run(folder):
    code, out, err = ssmrec("evaluate", "run", "--json", cwd=folder)
    assert code == 0, err
    metrics = json.loads((folder / "run/metrics.json").read_text())
    assert json.loads(out)["test"] == metrics["test"]
    code, out, err = ssmrec("evaluate", "run", "--on", "valid", "--json", cwd=folder)
    assert json.loads(out)["valid"] == metrics["valid"]


def test_evaluate_refuses_other_data(folder):
    frame = pl.read_csv(folder / "clicks.csv")
    frame.head(550).write_csv(folder / "fewer.csv")
    code, _, err = ssmrec("evaluate", "run", "--data", "fewer.csv", cwd=folder)
    assert code == 2 and "differ from those the run was trained on" in err


def test_other_data_are_matched_by_id(folder):
    """Without user u0, with one more in his place, all ids shift; Python gives the same figures."""
    rows = pl.read_csv(folder / "clicks.csv")
    changed = rows.with_columns(pl.col("customer").replace({"u0": "a0"}))
    changed.write_csv(folder / "shifted.csv")
    rows.with_columns(customer="x" + pl.col("customer")).write_csv(folder / "strangers.csv")
    words = ["evaluate", "run", "--any-data", "--json", "--data"]
    code, out, err = ssmrec(*words, "shifted.csv", cwd=folder)
    want = Recommender.load(folder / "run").evaluate(prepare(folder / "shifted.csv").test)
    told = json.loads(out)
    assert code == 0 and told["test"] == want.values and told["counts"] == want.counts
    assert told["data"] == "shifted.csv"
    assert want.counts["unknown_pairs"] == 3 and want.counts["users"] == 39
    assert want.counts["overlapping_pairs"] == 0
    assert "3 of 120 pairs have ids the model does not know" in err
    for command in ("evaluate", "analyze"):
        words = [command, "run", "--any-data", "--data", "strangers.csv"]
        code, out, err = ssmrec("--quiet", *words, cwd=folder)
        assert (code, out) == (2, "") and "none of the 120 pairs has a user and an item" in err


def test_recommend_equals_python_and_leaves_out_what_is_known(folder):
    (folder / "users.txt").write_text("u3\nu5\n\n")
    code, out, err = ssmrec(
        "recommend", "run", "--users", "users.txt", "--top", 4, "--out", "recs.parquet", cwd=folder
    )
    assert code == 0, err
    assert out == "8 recommendations for 2 users in recs.parquet\n"
    frame = pl.read_parquet(folder / "recs.parquet")
    recommender = Recommender.load(folder / "run")
    assert frame.equals(recommender.recommend(["u3", "u5"], 4))
    seen = recommender.trained_.seen.frame()
    assert frame.join(seen, on=["user", "item"]).is_empty()


def test_recommend_takes_ids_and_reports_unknown_users(folder):
    code, out, err = ssmrec(
        "recommend", "run", "--users", "u1", "u2", "ghost", "--top", 3, cwd=folder
    )
    assert code == 0 and "u1" in out and "u2" in out
    assert "1 user(s) were not trained on: 'ghost'; left out" in err
    words = ["--users", "ghost", "u1", "--unknown", "error"]
    code, _, err = ssmrec("recommend", "run", *words, cwd=folder)
    assert code == 2 and err.lstrip().startswith("error: 1 user(s) were not trained on: 'ghost'")


def test_a_policy_for_unknown_users_holds_for_all_of_them(folder):
    """Without one, nobody known is an error: a mistyped file looks like that."""
    words = ["recommend", "run", "--users", "ghost", "--top", 2, "--out", "ghost.csv", "--unknown"]
    code, out, err = ssmrec(*words, "popular", cwd=folder)
    python = Recommender.load(folder / "run").recommend(["ghost"], 2, unknown="popular")
    assert (code, out) == (0, "2 recommendations for 1 users in ghost.csv\n")
    assert pl.read_csv(folder / "ghost.csv")["item"].to_list() == python["item"].to_list()
    code, out, err = ssmrec(*words, "skip", cwd=folder)
    assert (code, out) == (0, "0 recommendations for 0 of 1 users in ghost.csv\n")
    assert "1 user(s) were not trained on: 'ghost'; left out" in err
    code, _, err = ssmrec(*words[:-1], cwd=folder)
    assert code == 2 and "for strangers there is --unknown popular" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "clicks.csv", "--out", ""], "--out: empty"),
        (["train", "clicks.csv", "--out="], "--out: empty"),
        (["train", "clicks.csv", "--test", " "], "--test: empty"),
        (["data", "stats", ""], "an argument after 'stats': empty"),
        (["export", "run", "--out", ""], "--out: empty"),
    ],
)
def test_an_empty_argument_is_not_the_current_folder(folder, words, message):
    before = sorted(folder.iterdir())
    code, out, err = ssmrec(*words, cwd=folder)
    assert (code, out, err) == (2, "", f"error: {message}; name something, or leave it out\n")
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("library", ["importlib.metadata", "typer", "torch"])
def test_ctrl_c_while_libraries_load_is_one_line(library):
    """It is never found: looking for it is interrupted."""
    code = """
import sys
sys.argv = ["/usr/bin/ssmrec", "demo"]
class Interrupted:
    def find_spec(self, name, *rest):
        if name == "LIBRARY":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from ssmrec.cli import main
main()
""".replace("LIBRARY", library)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "interrupted\n") and done.returncode in (-2, 130)
    done = subprocess.run([sys.executable, "-c", code.replace("ssmrec\"", "own\"")],
                          capture_output=True, text=True)  # fmt: skip
    assert "Traceback" in done.stderr  # a user's program keeps its own ways


def test_ids_with_markup_are_shown_as_they_are(folder):
    frame = pl.read_csv(folder / "clicks.csv")
    frame.with_columns(product="[i" + pl.col("product").cast(str) + "]").write_csv(folder / "b.csv")
    code, _, err = ssmrec("train", "b.csv", "--epochs", "1", "--out", "b", cwd=folder)
    assert code == 0, err
    code, out, _ = ssmrec("recommend", "b", "--users", "u1", "--top", "2", cwd=folder)
    assert out.count("[i") == 2


def test_a_run_from_python_has_no_titles_and_says_it_knows_no_file(folder):
    pairs = load(pl.DataFrame({"user": [1, 1, 2, 2, 3, 3], "item": [1, 2, 2, 3, 4, 5]}))
    Recommender("mf", train={"epochs": 1}).fit(pairs, progress=False).save(folder / "python")
    code, out, err = ssmrec("recommend", "python", "--users", "1", "--top", "9", cwd=folder)
    assert code == 0 and "title" not in out
    assert "--top 9: the run knows 5 items, so the lists are shorter" in err
    code, _, err = ssmrec("evaluate", "python", cwd=folder)
    assert code == 2 and "knows no data file: name it with --data" in err


def test_evaluate_shows_protocol_and_warning(folder):
    words = ["--model", "mf", "--loss", "bpr", "--epochs", "1", "--protocol", "published"]
    code, out, err = ssmrec("train", "clicks.csv", *words, "--out", "pub", cwd=folder)
    assert code == 0 and "WARNING: epoch chosen on TEST" in out, err
    code, out, _ = ssmrec("evaluate", "pub", cwd=folder)
    assert "protocol published" in out and "WARNING: epoch chosen on TEST" in out
    code, out, _ = ssmrec("evaluate", "pub", "--json", cwd=folder)
    assert json.loads(out)["selected_on"] == "test"


def test_version(folder):
    assert ssmrec("--version", cwd=folder)[:2] == (0, f"ssmrec {metadata.version('ssmrec')}\n")


def test_tables_fit_80_columns(folder):
    code, out, _ = ssmrec("evaluate", "run", cwd=folder)
    lines = out.splitlines()
    assert code == 0 and max(len(line) for line in lines[:8]) <= 80
    for label in ("lightgcn + ssm", "most popular", "best possible"):
        assert sum(line.startswith(f"│ {label} ") for line in lines) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "nothing.csv"], "nothing.csv"),
        (["train", "clicks.csv", "--model", "lightgcm"], "did you mean 'lightgcn'?"),
        (["train", "clicks.csv", "--set", "loss.temperatur=1"], "did you mean 'loss.temperature'?"),
        (["train", "clicks.csv", "--set", "train.batch_sise=512"], "did you mean 'train.batch_size'?"),
        (["train", "clicks.csv", "--set", "loss.temperature=0"], "loss.temperature: "),
        (["train", "clicks.csv", "--set", "train.epochs"], "must look like key=value"),
        (["train", "--recipe", "yelp2018-lightgcn-smm"], "did you mean yelp2018-lightgcn-ssm"),
        (["train", "clicks.csv", "--out", "run"], "holds a finished run"),
        (["train", "clicks.csv", "--out", "clicks.csv/x"], "clicks.csv/x: cannot be written"),
        (["train", "clicks.csv", "--protocol", "refit", "--set", "data.split.valid=0"], "data.split.valid"),
        (["train", "clicks.csv", "--budget", "soon"], "--budget soon: must look like 10s, 5m or 2h"),
        (["train"], "nothing to train on: name a file"),
        (["train", "clicks.csv", "--set", "train.lr=.inf"], "train.lr: "),
        (["recommend", "run", "--users", "nofile.txt"], "nofile.txt: neither a file nor an id that the run"),
        (["evaluate", "nowhere"], "nowhere: not a finished run"),
        (["evaluate", "run", "--metric", "ndgc@20"], "did you mean"),
        (["recommend", "run", "--top", "3", "--out", "recs.xlsx"], "must end in .parquet, .csv, .jsonl"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(folder, words, message):
    code, out, err = ssmrec("--quiet", *words, cwd=folder)
    assert code == 2 and message in err
    assert "Traceback" not in err and not out
    assert [line.startswith("error: ") for line in err.splitlines() if line][-1]


def test_debug_raises_the_error_itself(folder):
    with pytest.raises(RunError):
        ssmrec("--debug", "evaluate", "nowhere", cwd=folder)


def test_the_module_runs_as_a_process():
    """Exit code and error line as a shell sees them."""
    words = [sys.executable, "-m", "ssmrec", "evaluate", "nowhere"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: nowhere: not a finished run")


def test_every_recipe_resolves():
    from ssmrec.config import read_recipe, recipes
    from ssmrec.training import resolve

    assert "yelp2018-lightgcn-ssm" in recipes()
    for name in recipes():
        config = resolve(read_recipe(name))
        assert config.data.source in name


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """A folder with a run on numbers as ids, with a test file, both moved to `new` since."""
    place = tmp_path_factory.mktemp("numbers")
    rows = [(user, (7 * user + 3 * at) % 17) for user in range(12) for at in range(8)]
    for name, part in (("a", rows[::2]), ("t", rows[1::2])):
        pl.DataFrame(part, schema=["user", "item"], orient="row").write_csv(place / f"{name}.csv")
    code, _, err = ssmrec(
        "train", "a.csv", "--test", "t.csv", "--model", "mf", "--epochs", "1", "--out", "run",
        cwd=place,
    )  # fmt: skip
    assert code == 0, err
    (place / "new").mkdir()
    for name in ("a.csv", "t.csv"):
        (place / name).rename(place / "new" / name)
    return place


def test_a_test_file_that_was_moved_is_found_beside_the_data(numbered):
    code, out, err = ssmrec("evaluate", "run", "--data", "new/a.csv", "--json", cwd=numbered)
    assert code == 0, err
    metrics = json.loads((numbered / "run/metrics.json").read_text())
    assert json.loads(out)["test"] == metrics["test"]
    code, _, err = ssmrec("evaluate", "run", cwd=numbered)
    assert code == 2 and "name their place with --data" in err


@pytest.mark.parametrize(
    ("users", "policy", "kind", "listed"),
    [
        (["1", "2", "abc", "3"], "popular", pl.String, {"1", "2", "3", "abc"}),
        (["1", "2", "007", "3"], "popular", pl.String, {"1", "2", "3", "007"}),
        (["1", "2", "99", "3"], "popular", pl.Int64, {1, 2, 3, 99}),
        (["1", "2", "abc", "3"], "skip", pl.Int64, {1, 2, 3}),
    ],
)
def test_users_of_all_blocks_have_one_type(numbered, monkeypatch, users, policy, kind, listed):
    """One that is no integer, in a later block than the others."""
    monkeypatch.setattr("ssmrec.serving.bulk.BLOCK", 2)
    code, _, err = ssmrec(
        "recommend", "run", "--users", *users, "--unknown", policy, "--out", "lists.parquet",
        cwd=numbered,
    )  # fmt: skip
    assert code == 0, err
    found = pl.read_parquet(numbered / "lists.parquet")["user"]
    assert found.dtype == kind and set(found) == listed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["data.weight=w"], "data.weight"),
        (["data.duplicates=count"], "data.duplicates"),
        (["data.duplicates=last"], None),
        (["data.weight=w", "train.weight_power=1"], None),
    ],
)
def test_weights_that_no_training_uses_are_told(tmp_path, words, told):
    rows = [f"{user},{(7 * user + at) % 17},{at + 1}" for user in range(12) for at in range(8)]
    (tmp_path / "a.csv").write_text("\n".join(["user,item,w", *rows]) + "\n")
    sets = [part for pair in words for part in ("--set", pair)]
    code, _, err = ssmrec(
        "-q", "train", "a.csv", "--model", "mf", "--epochs", "1", *sets, cwd=tmp_path
    )
    assert code == 0
    said = f"weights are only kept, so without effect: {told}"
    assert (said in err) == (told is not None), err


def outside(line, cwd):
    """A line of the shell, `ssmrec` being this one."""
    script = f'ssmrec() {{ "{sys.executable}" -m ssmrec "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", script], cwd=cwd, capture_output=True, text=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_standard_output_that_takes_nothing_is_named(tmp_path):
    full, closed = (outside(f"ssmrec --version {to}", tmp_path) for to in ("> /dev/full", ">&-"))
    assert (full.returncode, closed.returncode) == (2, 2)
    assert full.stderr == "error: standard output, or a file: No space left on device\n"
    assert closed.stderr == "error: standard output: Bad file descriptor\n"


def test_names_that_are_no_text_are_refused_before_the_work(tmp_path):
    for words in (
        "train $'d\\xe4t.csv'",
        "train online-retail --out $'runs/b\\xe4'",
        "recommend run $'k\\xe4'",
    ):
        found = outside(f"ssmrec {words}", tmp_path)
        assert found.returncode == 2 and found.stderr.count("\n") == 1
        assert (
            "\\udce4" in found.stderr
            and "is no text in the encoding of this system" in found.stderr
        )


def test_a_page_has_a_place_of_its_own(tmp_path):
    found = outside("ssmrec analyze run --out page.html", tmp_path)
    assert found.returncode == 2 and "--html" in found.stderr
