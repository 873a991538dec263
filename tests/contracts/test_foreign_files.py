"""Files of others: what lies in a folder that is no run, and where links in a run lead, is as it was."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import polars as pl
import pytest
import yaml

from command_line import ssmrec
from ssmrec import Recommender
from ssmrec.cli.tune import _final as tune_final
from ssmrec.compare import Store
from ssmrec.errors import RunError
from ssmrec.reporting.trackers import trackers
from ssmrec.storage.files import PART, part_of, ready, replace_together, replaced, target_of
from ssmrec.tuning.record import prepare_folder

MF = ["--model", "mf", "--set", "model.dim=8", "--epochs", 1]
OURS = [
    "metrics.json", "config.yaml", "history.jsonl", "ids.parquet", "model.safetensors",
    "analysis.json", "analysis.html",
]  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def far(tmp_path) -> Path:
    """A folder of the user's, to which links of a stranger lead."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far/bashrc").write_text("mine")
    return tmp_path / "far"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, rows) -> Path:
    """A folder with shop.csv and a run on it."""
    place = tmp_path_factory.mktemp("trained")
    rows.write_csv(place / "shop.csv")
    code, _, err = ssmrec("train", "shop.csv", *MF, "--out", "run", cwd=place)
    assert code == 0, err
    return place


@pytest.fixture
def place(trained, tmp_path) -> Path:
    """The same in the folder of the test."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


# Links


def test_a_link_is_replaced_and_where_it_leads_nothing_is_written(tmp_path, far):
    links = [tmp_path / name for name in ("a", "b", "c")]
    for link, target in zip(links, ("far/bashrc", "far/none", "a"), strict=True):
        link.symlink_to(target)
        part_of(link).symlink_to(far / "bashrc")  # where it is written first
    with replaced(links[0]) as part:
        part.write_text("1")
    replace_together({link: lambda path: path.write_text("2") for link in links[1:]}, links[2])
    assert [link.read_text() for link in links] == ["1", "2", "2"]
    assert not any(link.is_symlink() for link in links)
    assert content(far) == {"bashrc": b"mine"}


def test_the_target_of_a_link_that_the_user_names_is_replaced(tmp_path, far):
    (tmp_path / "link").symlink_to("far/bashrc")
    (tmp_path / "second").symlink_to("link")
    with replaced(target_of(tmp_path / "second")) as part:
        part.write_text("new")
    assert (tmp_path / "second").is_symlink() and (tmp_path / "link").is_symlink()
    assert content(far) == {"bashrc": b"new"}


def test_to_try_a_folder_touches_none_of_its_files(tmp_path, far):
    (tmp_path / ".write").symlink_to("far/bashrc")
    ready(tmp_path)
    assert (tmp_path / ".write").is_symlink() and content(far) == {"bashrc": b"mine"}


def test_links_in_a_run_are_not_followed(place, far):
    pytest.importorskip("plotly", reason="plotly is not installed")
    run = place / "run"
    names = ["analysis.json", "analysis.html", ".write"]
    for name in names:
        (run / name).symlink_to(far / "bashrc")
    code, _, err = ssmrec("analyze", "run", cwd=place)
    assert code == 0, err
    assert [(run / name).is_symlink() for name in names] == [False, False, True]
    for name in ("config.yaml", "model.safetensors", "metrics.json", f"ids.parquet{PART}"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(far / "bashrc")
    code, _, err = ssmrec("train", "shop.csv", *MF, "--out", "run", "--overwrite", cwd=place)
    assert code == 0, err
    assert content(far) == {"bashrc": b"mine"}
    assert [path.name for path in run.iterdir() if path.is_symlink()] == [".write"]


def test_an_index_takes_the_place_of_a_link(place, far):
    pytest.importorskip("usearch", reason="usearch is not installed")
    for name in ("index.usearch", "index.usearch.json"):
        (place / "run" / name).symlink_to(far / "bashrc")
    code, _, err = ssmrec("index", "run", cwd=place)
    assert code == 0, err
    assert content(far) == {"bashrc": b"mine"}
    (place / "far/index.usearch").write_text("of another program")
    code, _, err = ssmrec("index", "run", "--out", "far", cwd=place)
    assert code == 2 and "far/index.usearch: is not of ssmrec, and would be replaced" in err
    assert content(far) == {"bashrc": b"mine", "index.usearch": b"of another program"}


def test_a_page_follows_a_link_that_is_named_and_no_other(place, far):
    pytest.importorskip("plotly", reason="plotly is not installed")
    (place / "report.html").symlink_to("far/bashrc")
    code, out, err = ssmrec("report", "run", cwd=place)
    assert (code, out) == (0, "1 run in report.html\n"), err
    assert content(far) == {"bashrc": b"mine"} and not (place / "report.html").is_symlink()
    (place / "page.html").symlink_to("far/page.html")
    code, _, err = ssmrec("report", "run", "--out", "page.html", cwd=place)
    assert code == 0 and (place / "page.html").is_symlink() and "page.html" in content(far), err


def test_a_folder_that_is_a_link_is_one_like_any_other(place):
    (place / "runs").mkdir()
    (place / "run").rename(place / "runs/1")
    (place / "runs/live").symlink_to("1")
    words = ["train", "shop.csv", *MF, "--seed", 1, "--out", "runs/live", "--overwrite"]
    code, _, err = ssmrec(*words, cwd=place)
    assert code == 0, err
    assert (place / "runs/live").is_symlink()
    assert yaml.safe_load((place / "runs/1/config.yaml").read_text())["settings"]["seed"] == 1


@pytest.mark.parametrize("name", ["results", "users", "runs"])
def test_a_comparison_refuses_folders_that_lead_out_of_it(tmp_path, far, name):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / name).symlink_to(far)
    with pytest.raises(
        RunError, match=f"o/{name}: is a link that leads out of .*/o, where nothing"
    ):
        Store(tmp_path / "o").prepare()
    (tmp_path / "o" / name).unlink()
    (tmp_path / "o/own").mkdir()
    (tmp_path / "o" / name).symlink_to("own")
    (tmp_path / "link").symlink_to("o")
    Store(tmp_path / "link").prepare()
    assert content(far) == {"bashrc": b"mine"}


@pytest.mark.parametrize("name", ["study.db", "study.db-journal", "study.db-wal"])
def test_a_search_refuses_a_memory_that_leads_out_of_it(tmp_path, far, name):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / name).symlink_to(far / "bashrc")
    with pytest.raises(RunError, match=rf"o/{name}: is a link that leads out of"):
        prepare_folder(tmp_path / "o")


def test_events_are_not_deleted_where_a_link_leads_nor_in_a_folder_without_a_run(tmp_path, far):
    pytest.importorskip("tensorboard")
    (far / "events.out.tfevents.1").write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / "tensorboard").symlink_to(far)
    with pytest.raises(RunError, match="run/tensorboard: is a link that leads out of"):
        trackers(["tensorboard"], run)
    (run / "tensorboard").unlink()
    far.rename(run / "tensorboard")
    for held, kept in (("config.yaml", True), ("metrics.json", False)):
        (run / held).write_text("{}")
        (board,) = trackers(["tensorboard"], run)
        board.open({})
        board.close()
        assert (run / "tensorboard/events.out.tfevents.1").exists() is kept


# Folders that are no runs


@pytest.mark.parametrize("name", OURS)
def test_no_file_of_another_program_is_replaced(trained, tmp_path, name):
    shutil.copyfile(trained / "shop.csv", tmp_path / "shop.csv")
    (tmp_path / name).write_text("seeds: [1, 2]")
    before = content(tmp_path)
    code, out, err = ssmrec("train", "shop.csv", *MF, "--out", ".", cwd=tmp_path)
    assert (code, out) == (2, "") and content(tmp_path) == before
    assert err.splitlines()[-1] == (
        "error: .: holds a finished run; choose another --out, or --overwrite"
        if name == "metrics.json"
        else f"error: {name}: is not of a run, and would be replaced; choose another --out, or --overwrite"
    )


def test_every_verb_that_saves_a_run_spares_files_of_others(place):
    (place / "mine").mkdir()
    (place / "mine/config.yaml").write_text("lr: 0.1")
    shutil.copytree(place / "run", place / "other")
    for words in (["update", "run", "shop.csv"], ["blend", "run", "other", "--weights", "1,1"]):
        code, _, err = ssmrec(*words, "--out", "mine", cwd=place)
        assert code == 2 and "mine/config.yaml: is not of a run, and would be replaced" in err
    rec = Recommender.load(place / "run")
    with pytest.raises(RunError, match="choose another folder, or overwrite=True"):
        rec.save(place / "mine")
    assert content(place / "mine") == {"config.yaml": b"lr: 0.1"}
    rec.save(place / "mine", overwrite=True)
    Recommender.load(place / "mine")


def test_what_a_command_replaces_unasked_is_a_run(place, monkeypatch):
    """`ssmrec demo` and `ssmrec tune --final` train again into the folder they have used before."""
    (place / "final").mkdir()
    (place / "final/config.yaml").write_text("lr: 0.1")
    code, _, err = ssmrec("demo", "--out", "final", cwd=place)
    assert code == 2 and "final/config.yaml: is not of a run, and would be replaced" in err
    monkeypatch.chdir(place)
    config = Recommender.load(place / "run").trained_.config
    with pytest.raises(RunError, match=r"final/config\.yaml: is not of a run"):
        tune_final(config, place / "final")
    assert content(place / "final") == {"config.yaml": b"lr: 0.1"}
    tune_final(config, place / "run")


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_only_files_of_our_own_names_are_deleted(trained, tmp_path, more):
    shutil.copyfile(trained / "shop.csv", tmp_path / "shop.csv")
    theirs = ["film.mkv.part", ".write", ".tmpAb3dEf", "sales.next.parquet", "data.next.parquet"]
    for name in theirs:
        (tmp_path / name).write_text("mine")
    (tmp_path / f"model.safetensors{PART}").write_text("left by a killed process")
    before = content(tmp_path)
    code, _, err = ssmrec("train", "shop.csv", *MF, "--out", ".", *more, cwd=tmp_path)
    assert code == 0, err
    found = content(tmp_path)
    assert all(found[name] == before[name] for name in ("shop.csv", *theirs))
    assert sorted(found.keys() - before.keys()) == sorted(OURS[:5])
    assert not (tmp_path / f"model.safetensors{PART}").exists()


def test_rows_of_a_query_spare_the_users_own(trained, tmp_path, rows):
    pytest.importorskip("adbc_driver_sqlite", reason="extra `sql` is not installed")
    rows.write_parquet(tmp_path / "data.parquet")
    base = sqlite3.connect(tmp_path / "shop.db")
    with base:
        base.execute("CREATE TABLE clicks (user INTEGER, item INTEGER)")
        base.executemany("INSERT INTO clicks VALUES (?, ?)", rows.select("user", "item").rows())
    base.close()
    before = content(tmp_path)
    words = ["train", "sqlite:///shop.db", "--query", "select user, item from clicks", *MF]
    code, _, err = ssmrec(*words, "--out", ".", cwd=tmp_path)
    assert code == 2 and "data.parquet: is not of a run, and would be replaced" in err
    assert content(tmp_path) == before
    assert ssmrec(*words, "--out", "run", cwd=tmp_path)[0] == 0


def test_what_a_kill_left_of_a_run_is_replaced_by_the_same_command(place):
    """Files take their places one after the other, `config.yaml` first and `metrics.json` last."""
    whole = content(place / "run")
    for count in range(len(OURS[:5])):
        shutil.rmtree(place / "run")
        (place / "run").mkdir()
        order = ["config.yaml", "history.jsonl", "model.safetensors", "ids.parquet"]
        for name in order[:count]:
            (place / "run" / name).write_bytes(whole[name])
        (place / "run" / f"metrics.json{PART}").write_text("{")
        more = ["--resume"] if count % 2 else []
        code, _, err = ssmrec("train", "shop.csv", *MF, "--out", "run", *more, cwd=place)
        assert code == 0, err
        assert content(place / "run").keys() == whole.keys()


def test_config_is_the_first_file_of_a_run_to_take_its_place(place, monkeypatch):
    from ssmrec.storage import files
    from ssmrec.training import load_run, save_run

    moved: list[str] = []
    plain = files.os.replace
    monkeypatch.setattr(files.os, "replace", lambda a, b: (moved.append(b.name), plain(a, b)))
    save_run(place / "again", *load_run(place / "run"))
    assert (moved[0], moved[-1]) == ("config.yaml", "metrics.json")


def test_lists_spare_what_another_program_is_writing(place):
    (place / "recs.csv.part").write_text("a download")
    part_of(place / "recs.csv").write_text("left by a killed process")
    code, _, err = ssmrec("recommend", "run", "--top", 2, "--out", "recs.csv", cwd=place)
    assert code == 0 and len(pl.read_csv(place / "recs.csv")) == 80, err
    assert (place / "recs.csv.part").read_text() == "a download"
    assert not list(place.glob(f"*{PART}"))


@pytest.mark.parametrize("name", ["table.md", "table.csv", "tests.json"])
def test_a_comparison_spares_files_of_others(tmp_path, name):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/mine.json").write_text("{}")
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match=f"{name}: is not of a comparison, and would be replaced"):
        Store(tmp_path).prepare()
    (tmp_path / "results/shop-mf-bpr-s0-0123abcd.json").write_text("{}")
    Store(tmp_path).prepare()


def test_a_table_alone_tells_a_comparison(tmp_path):
    (tmp_path / "table.csv").write_text("data,method,metric,seeds,mean\n")
    (tmp_path / "table.md").write_text("### shop\n")
    Store(tmp_path).prepare()


@pytest.mark.parametrize("name", ["recipe.yaml", "trials.csv", "search.html"])
def test_a_search_spares_files_of_others(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match=f"{name}: is not of a search, and would be replaced"):
        prepare_folder(tmp_path)
    (tmp_path / "study.db").touch()  # a search that was killed when it began
    prepare_folder(tmp_path)


def test_a_search_spares_databases_of_others(tmp_path):
    optuna = pytest.importorskip("optuna", reason="optuna is not installed")
    mine = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(storage=mine, study_name="my own")
    before = content(tmp_path)
    with pytest.raises(RunError, match=r"study\.db: is not of a search, and would be replaced"):
        prepare_folder(tmp_path)
    assert content(tmp_path) == before
    optuna.create_study(storage=mine, study_name="ssmrec")
    prepare_folder(tmp_path)
    (tmp_path / "study.db").unlink()
    with sqlite3.connect(tmp_path / "study.db") as base:
        base.execute("CREATE TABLE clicks (user INTEGER)")
    with pytest.raises(RunError, match=r"study\.db: is not of a search"):
        prepare_folder(tmp_path)
