"""`ssmrec update`, in this process, on small files."""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial

import numpy as np
import polars as pl
import pytest
import yaml

from command_line import ssmrec as run
from ssmrec.training.config import completed

ssmrec = partial(run, columns="200")
SMALL = ("--set", "model.dim=8", "--set", "train.batch_size=64", "--set", "train.threads=1")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Clicks of 50 customers, those of later days with new ones, and a run on the earlier ones."""
    place = tmp_path_factory.mktemp("shop")
    random = np.random.default_rng(0)
    users = np.repeat([f"u{n}" for n in range(50)], 12)
    items = np.concatenate([random.choice(30, 12, replace=False) for _ in range(50)])
    frame = pl.DataFrame({"customer": users, "product": items, "ts": random.permutation(600)})
    first = (pl.col("ts") < 400) & (pl.col("customer") != "u49") & (pl.col("product") != 29)
    frame.filter(first).write_csv(place / "clicks.csv")
    frame.filter(~first & (pl.col("ts") < 550)).write_csv(place / "new.csv")
    frame.filter(pl.col("ts") >= 550).write_csv(place / "test.csv")
    frame.write_csv(place / "all.csv")
    code, _, err = ssmrec("train", "clicks.csv", *SMALL, "--epochs", 8, "--out", "run", cwd=place)
    assert code == 0, err
    words = ("update", "run", "all.csv", "--replace-data", "--epochs", 0, "--out", "whole")
    code, _, err = ssmrec(*words, cwd=place)
    assert code == 0, err
    pl.DataFrame({"customer": ["u0"], "product": [98]}).write_csv(place / "one.csv")
    pl.DataFrame({"customer": ["a", "b"], "product": [98, 99]}).write_csv(place / "other.csv")
    return place


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_new_users_and_items_are_learned_and_told(shop):
    words = ("update", "run", "new.csv", "--test", "test.csv", "--out", "second")
    code, out, err = ssmrec(*words, cwd=shop)
    assert code == 0, err
    counts = metrics(shop / "second")["counts"]["update"]
    new = pl.read_csv(shop / "new.csv")
    assert counts["pairs_new"] + counts["pairs_duplicate"] == len(new)
    assert counts["users_gone"] == counts["items_gone"] == counts["pairs_gone"] == 0
    assert f"pairs: {counts['pairs_known']:,} known, {counts['pairs_new']:,} new" in err
    assert "the warm start has ndcg@20" in err
    assert "run folder: second" in out and "most popular" in out
    code, out, err = ssmrec("recommend", "second", "--users", "u49", "--top", 3, cwd=shop)
    assert code == 0 and "u49" in out, err


def test_an_updated_run_says_how_it_is_measured_again(shop):
    words = ("update", "run", "new.csv", "--test", "test.csv", "--out", "measured")
    assert ssmrec(*words, cwd=shop)[0] == 0
    code, _, err = ssmrec("evaluate", "measured", cwd=shop)
    assert code == 2 and "was updated with further data" in err
    (later := shop / "later").mkdir()
    frames = [pl.read_csv(shop / name) for name in ("clicks.csv", "new.csv")]
    pl.concat(frames).write_csv(later / "train.csv")
    pl.read_csv(shop / "test.csv").write_csv(later / "test.csv")
    words = ("evaluate", "measured", "--data", "later", "--any-data", "--json")
    code, out, err = ssmrec(*words, cwd=shop)
    assert code == 0, err
    assert json.loads(out)["test"] == metrics(shop / "measured")["test"]


def test_the_new_run_says_where_it_began(shop):
    assert ssmrec("update", "run", "new.csv", "--out", "told", cwd=shop)[0] == 0
    record = yaml.safe_load((shop / "told/config.yaml").read_text())
    before = yaml.safe_load((shop / "run/config.yaml").read_text())
    start = record["warm_start"]
    assert start["run"] == "run" and start["new_data"] == "new.csv"
    assert start["data_fingerprint"] == before["data_fingerprint"] != record["data_fingerprint"]
    assert start == metrics(shop / "told")["warm_start"]
    best = metrics(shop / "run")["best_epoch"]
    assert start["epochs_afresh"] == best
    assert record["settings"]["train"]["epochs"] == max(1, -(-best // 4))
    before["settings"]["train"]["epochs"] = record["settings"]["train"]["epochs"]
    assert record["settings"] == before["settings"]


def test_replaced_data_forget_what_they_lack(shop):
    frame = pl.read_csv(shop / "all.csv").filter(pl.col("customer") != "u3")
    frame.write_csv(shop / "without.csv")
    words = ("update", "run", "without.csv", "--replace-data", "--out", "without")
    code, _, err = ssmrec(*words, cwd=shop)
    assert code == 0, err
    counts = metrics(shop / "without")["counts"]["update"]
    gone = pl.read_csv(shop / "clicks.csv").filter(pl.col("customer") == "u3")
    assert counts["users_gone"] == 1 and 0 < counts["pairs_gone"] <= len(gone)
    assert counts["pairs_known"] + counts["pairs_new"] == len(frame)
    code, _, err = ssmrec("recommend", "without", "--users", "u3", "--unknown", "error", cwd=shop)
    assert code == 2 and "u3" in err


def test_a_run_can_be_replaced_by_its_update_again_and_again(shop):
    words = ("train", "clicks.csv", *SMALL, "--epochs", 2, "--out", "live")
    assert ssmrec(*words, cwd=shop)[0] == 0
    for name in ("new.csv", "test.csv"):
        code, _, err = ssmrec("update", "live", name, "--out", "live", "--overwrite", cwd=shop)
        assert code == 0, err
    record = yaml.safe_load((shop / "live/config.yaml").read_text())
    assert record["warm_start"]["new_data"] == "test.csv"
    held = metrics(shop / "live")["counts"]["update"]
    assert held["pairs_new"] == len(pl.read_csv(shop / "test.csv"))


def test_a_closed_form_is_solved_again_and_said(shop):
    assert ssmrec("train", "clicks.csv", "--model", "ease", "--out", "ease", cwd=shop)[0] == 0
    code, _, err = ssmrec("update", "ease", "new.csv", cwd=shop)
    assert code == 0 and "ease is solved again from all pairs: there is no warm start" in err
    told = metrics(shop / "ease-updated")
    assert "warm_start" not in told and told["update"]["new_data"] == "new.csv"


@pytest.mark.parametrize("protocol", ["valid", "refit"])
def test_too_few_new_pairs_to_choose_by_are_trained_on_for_fixed_epochs(shop, protocol):
    """A quiet night: one pair of a new customer. The night after chooses by validation again."""
    pl.DataFrame({"customer": ["late"], "product": [3]}).write_csv(shop / "quiet.csv")
    words = ("--set", f"train.protocol={protocol}", "--epochs", 2, "--out", f"quiet-{protocol}")
    code, _, err = ssmrec("update", "run", "quiet.csv", *words, cwd=shop)
    assert code == 0, err
    assert "too few to choose the epoch on (they have 1): 2 epochs, fixed" in err
    told = metrics(shop / f"quiet-{protocol}")
    assert told["protocol"] == "fixed" and told["valid"] is None
    assert told["epochs"] == told["best_epoch"] == 2
    code, out, err = ssmrec("recommend", f"quiet-{protocol}", "--users", "late", cwd=shop)
    assert code == 0 and "late" in out, err
    words = ("update", f"quiet-{protocol}", "new.csv", "--epochs", 2, "--out", f"next-{protocol}")
    assert ssmrec(*words, cwd=shop)[0] == 0
    after = metrics(shop / f"next-{protocol}")
    assert after["protocol"] == protocol and after["counts"]["valid"]["users"] > 0


def test_a_closed_form_takes_a_single_pair(shop):
    pl.DataFrame({"customer": ["late"], "product": [3]}).write_csv(shop / "single.csv")
    assert ssmrec("train", "clicks.csv", "--model", "ease", "--out", "closed", cwd=shop)[0] == 0
    code, _, err = ssmrec("update", "closed", "single.csv", "--out", "closed-2", cwd=shop)
    assert code == 0, err
    assert metrics(shop / "closed-2")["counts"]["update"]["pairs_new"] == 1


def test_the_default_folder_is_beside_the_run_also_from_inside(shop):
    assert ssmrec("train", "clicks.csv", *SMALL, "--epochs", 1, "--out", "in", cwd=shop)[0] == 0
    code, out, err = ssmrec("update", ".", "../new.csv", "--epochs", 1, cwd=shop / "in")
    assert code == 0 and (shop / "in-updated/metrics.json").exists(), err
    assert not list((shop / "in").glob("*-updated")) and "in-updated" in out


def test_a_budget_ends_it(shop):
    words = ("update", "run", "new.csv", "--epochs", 500, "--budget", "0.2s", "--out", "short")
    code, _, err = ssmrec(*words, cwd=shop)
    assert code == 0, err
    assert metrics(shop / "short")["stopped"] == "budget"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "new.csv"], "nowhere: not a finished run"),
        (["whole", "clicks.csv"], "pairs are in the run already: nothing to learn"),
        (
            ["whole", "one.csv", "--test", "clicks.csv"],
            "every test pair is among the pairs to train on",
        ),
        (["run", "other.csv"], "no user and no item of the 2 new pairs is known to the run"),
        (["run", "new.csv", "--out", "run"], "run: holds a finished run"),
        (
            ["run", "new.csv", "--set", "model.dim=16"],
            "a warm start goes on with the model of the run",
        ),
        (["run", "new.csv", "--set", "train.lr=-1"], "train.lr: must be above 0"),
        (["run", "new.csv", "--epochs", "-1"], "train.epochs: must be at least 0"),
        (
            ["run", "new.csv", "--set", "data.min_user=1000"],
            "pairs 0 are in the run already, and the others are dropped by data.min_user=1000",
        ),
        (["run", "new.csv", "--budget", "soon"], "--budget soon: must look like 10s, 5m or 2h"),
        (["run", "missing.csv"], "missing.csv"),
        (["run", "sqlite:///new.db"], "a database needs its address"),
    ],
)
def test_faults_are_one_line(shop, words, message):
    out = [] if "--out" in words else ["--out", "never"]
    code, _, err = ssmrec("update", *words, *out, cwd=shop)
    last = err.strip().splitlines()[-1]
    assert code == 2 and last.startswith("error: ") and message in last, err
    assert "Traceback" not in err and not (shop / "never").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["empty.csv", "--set", "train.lr=-1"], "train.lr: must be above 0"),
        (["empty.csv", "--set", "train.lrr=1"], "unknown key train.lrr"),
        (["empty.csv", "--set", "train.optimizer=lazy_adam"], "train.optimizer=lazy_adam"),
        (["empty.csv", "--set", "negatives.name=given"], "negatives=given needs negatives.path"),
        (
            ["empty.csv", "--set", "loss.prefixes=[9]"],
            "loss.prefixes: 9 is more than the 8 numbers",
        ),
        (["empty.csv", "--set", "train.precision=bf16"], "train.precision=bf16"),
        (["empty.csv", "--set", "train.protocol=published"], "there is none: name it with --test"),
        (["empty.csv", "--set", "data.source=b.csv"], "data.source: the new pairs are NEW_DATA"),
        (["empty.csv", "--set", "data.test=b.csv"], "leave --set data.test out"),
        (["empty.csv", "--set", "data.split.valid=0"], "there are none: set data.split.valid=0.1"),
        (["empty.csv", "--set", "data.split.cut=1e300"], "data.split.cut: must be an ISO date"),
        (["empty.csv", "--resume", "--overwrite"], "--overwrite begins anew: choose one"),
        (["empty.csv", "--test", "lost.csv"], "lost.csv: no such file"),
        (["ftp://shop/new.csv"], "ftp://shop/new.csv: is an address of a kind that is not read"),
    ],
)
def test_what_cannot_work_is_refused_before_reading(shop, words, message):
    """Reading the new pairs, a file of 0 bytes, would give another error."""
    (shop / "empty.csv").touch()
    code, _, err = ssmrec("-q", "update", "run", *words, "--out", "early", cwd=shop)
    assert code == 2 and message in err and len(err.splitlines()) == 1, err
    assert not (shop / "early").exists()


def test_what_is_missing_or_closed_is_told_before_reading(shop, monkeypatch):
    """A tracker that is not installed, and a folder that cannot be made."""
    (shop / "file").touch()
    (shop / "empty.csv").touch()
    code, _, err = ssmrec("-q", "update", "run", "empty.csv", "--out", "file/x", cwd=shop)
    assert code == 2 and "file/x" in err and "0 bytes" not in err and len(err.splitlines()) == 1
    monkeypatch.setitem(sys.modules, "mlflow", None)
    words = ("update", "run", "empty.csv", "--out", "untold", "--track", "mlflow")
    code, _, err = ssmrec("-q", *words, cwd=shop)
    assert code == 2 and "ssmrec[mlflow]" in err and not (shop / "untold").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--set", "data.split.strategy=given", "--set", "data.split.overlap=error"],
            "an update splits no test part off, so without effect: data.split.overlap, "
            "data.split.strategy",
        ),
        (["--set", "data.header=true", "--set", "data.event=x"], "data.events=[], so without effect"),
        (["--set", "train.protocol=fixed", "--set", "train.patience=3"],
         "train.protocol=fixed chooses no epoch, so without effect: train.patience"),
        ([], ""),
    ],
)  # fmt: skip
def test_settings_without_effect_are_told_as_by_train(shop, words, told):
    code, _, err = ssmrec(
        "update", "run", "new.csv", "--epochs", 0, *words, "--out", "idle", cwd=shop
    )
    shutil.rmtree(shop / "idle", ignore_errors=True)
    assert (told in err) if told else ("without effect" not in err), err
    assert code == 0 or "event" in told, err


def test_what_nobody_asked_for_is_not_told(shop):
    assert ssmrec("train", "clicks.csv", "--model", "ease", "--out", "solved", cwd=shop)[0] == 0
    code, _, err = ssmrec("update", "solved", "new.csv", cwd=shop)
    assert code == 0 and "without effect" not in err
    code, _, err = ssmrec(
        "update", "solved", "new.csv", "--epochs", 3, "--budget", "1m", "--out", "asked", cwd=shop
    )
    assert "so without effect: train.epochs, train.budget" in err


def test_a_blend_is_updated_model_by_model(shop):
    words = ("train", "clicks.csv", "--model", "ease", "--out", "blend-ease")
    assert ssmrec(*words, cwd=shop)[0] == 0
    words = ("blend", "run", "blend-ease", "--weights", "1,1", "--out", "both")
    code, _, err = ssmrec(*words, cwd=shop)
    assert code == 0, err
    words = ("update", "both", "new.csv", "--test", "test.csv")
    code, out, err = ssmrec(*words, "--out", "both-2", cwd=shop)
    assert code == 0, err
    assert "part 1 of 2: lightgcn + ssm" in err and "part 2 of 2: ease" in err
    assert "its models are updated one after the other, their weights stay" in err
    assert "without effect" not in err and "model.parts" not in err
    assert "0.5 lightgcn + ssm & 0.5 ease" in out and metrics(shop / "both-2")["test"]
    code, out, err = ssmrec("recommend", "both-2", "--users", "u49", "--top", 3, cwd=shop)
    assert code == 0 and "u49" in out
    words = ("blend", "both", "solved-svd", "--weights", "1,1", "--out", "nested")
    assert ssmrec("train", "clicks.csv", "--model", "svd", "--out", "solved-svd", cwd=shop)[0] == 0
    assert ssmrec(*words, cwd=shop)[0] == 0
    code, _, err = ssmrec("update", "nested", "new.csv", "--out", "nested-2", cwd=shop)
    assert code == 0 and "part 2 of 2: svd" in err, err
    words = ("update", "both", "new.csv", "--set", "loss.name=bpr", "--out", "other")
    code, _, err = ssmrec(*words, cwd=shop)
    assert code == 2 and "loss: each model of a blend has its own" in err
    assert "reading" not in err and not (shop / "other").exists()


def test_what_was_left_open_follows_another_loss(shop):
    """Ranking by cosine is what the loss of the run asks for, and its sampler; `bpr` has others."""
    code, _, err = ssmrec(
        "update",
        "run",
        "new.csv",
        "--set",
        "loss.name=bpr",
        "--epochs",
        1,
        "--out",
        "bpr",
        cwd=shop,
    )
    assert code == 0, err
    settings = yaml.safe_load((shop / "bpr/config.yaml").read_text())["settings"]
    before = yaml.safe_load((shop / "run/config.yaml").read_text())["settings"]
    assert before["ranking"]["similarity"] == "cosine"
    assert settings["ranking"]["similarity"] == "dot" and settings["loss"]["name"] == "bpr"
    assert settings["negatives"] == completed({"loss": {"name": "bpr"}}).negatives
    words = ["--set", "loss.name=bpr", "--set", "ranking.similarity=cosine"]
    code, _, err = ssmrec(
        "update", "run", "new.csv", *words, "--epochs", 0, "--out", "own", cwd=shop
    )
    settings = yaml.safe_load((shop / "own/config.yaml").read_text())["settings"]
    assert settings["ranking"]["similarity"] == "cosine"


def test_what_the_run_decided_stays_with_its_loss(shop):
    """Naming the sampler of the run is no change, and its settings stay; another one ranks as it should."""
    words = ["--set", "negatives.name=in_batch", "--set", "data.split.valid=0.2"]
    code, _, err = ssmrec(
        "update", "run", "new.csv", *words, "--epochs", 0, "--out", "same", cwd=shop
    )
    assert code == 0, err
    before, after = (
        yaml.safe_load((shop / name / "config.yaml").read_text())["settings"]
        for name in ("run", "same")
    )
    assert after["negatives"] == before["negatives"] and after["negatives"]["log_q"]
    words = ["--set", "negatives.log_q=false", "--epochs", 0, "--out", "popular"]
    code, _, err = ssmrec("update", "run", "new.csv", *words, cwd=shop)
    settings = yaml.safe_load((shop / "popular/config.yaml").read_text())["settings"]
    assert settings["ranking"]["similarity"] == "dot"
    assert "mf has no message passing" in err if settings["model"]["name"] == "mf" else code == 0


def test_titles_of_all_nights_stay(tmp_path):
    """Of three folders one after the other; the latest name of an item counts."""
    for n, titles in enumerate(
        ("i0,FIRST\ni1,OLD\n", "i1,NEWER\nn1,NIGHT ONE\n", "n2,NIGHT TWO\n")
    ):
        place = tmp_path / f"night{n}"
        place.mkdir()
        rows = [f"u{u},i{(u + k) % 6},{100 * n + k}" for u in range(9) for k in range(4)]
        rows += [f"u{u},n{n},{100 * n + 50}" for u in range(5)] if n else []
        (place / "train.csv").write_text("user,item,ts\n" + "\n".join(rows) + "\n")
        (place / "items.csv").write_text("item,title\n" + titles)
    small = ("--model", "mf", "--epochs", 1, "--protocol", "fixed", "--set", "data.split.test=0")
    assert ssmrec("train", "night0", *small, "--out", "r0", cwd=tmp_path)[0] == 0
    for n in (1, 2):
        code, _, err = ssmrec("update", f"r{n - 1}", f"night{n}", "--out", f"r{n}", cwd=tmp_path)
        assert code == 0, err
    told = metrics(tmp_path / "r2")["update"]
    assert (told["before"], told["new_data"]) == (["night1"], "night2")
    words = ("recommend", "r2", "--users", "u8", "--top", 9, "--include-seen")
    code, out, err = ssmrec(*words, cwd=tmp_path)
    assert code == 0, err
    assert all(title in out for title in ("FIRST", "NEWER", "NIGHT ONE", "NIGHT TWO"))
    assert "OLD" not in out
