"""Killed, out of disk, not allowed to write: what is left is whole, and the training goes on from it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from disks import small_disk, small_files
from ssmrec.cli.train import claim
from ssmrec.compare.store import Store
from ssmrec.errors import RunError
from ssmrec.recommender import Recommender
from ssmrec.serving import snapshot
from ssmrec.storage.files import PART, part_of, replace_together, replaced
from ssmrec.training import Checkpoint, load_run, train_run
from ssmrec.tuning.record import prepare_folder

SCRIPT = Path(__file__).parents[1] / "kill_often.py"
MF = ["--model", "mf", "--set", "model.dim=256", "--epochs", 3]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_killed_at_random_moments():
    """The small form of `python tests/kill_often.py 100`, in a process of its own: it forks."""
    words = [sys.executable, str(SCRIPT), "3", "11"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.match(r"killed 3 times, .* came to their end, all as the unbroken one", done.stdout)


def test_a_full_disk_leaves_earlier_files_whole(command, tmp_path, shop):
    """A finished run is to be replaced, and the disk takes 20 KB of a model of 70 KB."""
    code, _, err = command("train", shop, *MF, "--out", "run")
    assert code == 0, err
    before = files(tmp_path / "run")
    assert len(before["model.safetensors"]) > 60_000
    with small_files(20_000):
        code, _, err = command("train", shop, *MF, "--out", "run", "--overwrite", "--seed", 1)
    assert code == 2 and "Traceback" not in err
    assert "checkpoint cannot be written" in err and "training goes on without" in err
    assert "run: the run cannot be written" in err.splitlines()[-1]
    assert "epoch   3" in err  # the training went to its end
    assert files(tmp_path / "run") == before
    load_run(tmp_path / "run")


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(small_run, tastes, tmp_path):
    made = Checkpoint(tmp_path, "key", {}, False)
    config = small_run(model={"name": "mf", "dim": 64})
    train_run(config, tastes, None, made)
    before = files(tmp_path)
    made = Checkpoint(tmp_path, "key", {}, False)
    with small_files(5_000):
        train_run(config, tastes, None, made)
    assert files(tmp_path) == before


def test_full_tmpfs(command, tmp_path, shop):
    """A real full disk of 64 KB."""
    with small_disk(tmp_path / "disk", 64) as place:
        code, _, err = command("train", shop, *MF, "--out", place / "run")
        assert code == 2 and "the run cannot be written" in err and "No space left" in err
        assert "the model takes about 0.1 MB and the disk has 0.1 MB left; make room" in err
        assert not (place / "run").exists()
        (place / "filler").write_bytes(bytes(4096 * 13))
        code, _, err = command("train", shop, *MF, "--out", place / "run")
        assert code == 2 and "Traceback" not in err


def test_a_read_only_folder_is_one_line(command, tmp_path, shop):
    """As another user where the tests run as root, whom nothing is forbidden."""
    run = tmp_path / "run"
    run.mkdir(mode=0o555)
    root = os.geteuid() == 0
    made = [path for path in tmp_path.parents if path.name.startswith(("pytest-", "popen-"))]
    for path in (tmp_path, *made):  # pytest closes them to others
        path.chmod(path.stat().st_mode | 0o055)
    if root:
        os.seteuid(65534)
    try:
        code, out, err = command("train", shop, *MF, "--out", "run")
    finally:
        if root:
            os.seteuid(0)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == (
        "error: run: cannot be written (Permission denied); choose another --out"
    )
    assert "epoch" not in err.replace("train.epochs", "") and list(run.iterdir()) == []


@pytest.mark.parametrize("name", ["lists.csv", "lists.parquet"])
def test_out_files_are_whole_or_absent(command, tmp_path, shop, name):
    code, _, err = command("train", shop, *MF, "--out", "run")
    assert code == 0, err
    with small_files(500):
        code, _, err = command("recommend", "run", "--top", 10, "--out", name)
    assert code == 2 and f"{name}: cannot be written" in err.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.glob("lists*")) == []
    code, _, _ = command("recommend", "run", "--top", 10, "--out", name)
    read = pl.read_csv if name.endswith(".csv") else pl.read_parquet
    assert code == 0 and len(read(tmp_path / name)) == 40 * 10


@pytest.mark.parametrize("form", ["parquet", "npy"])
def test_vectors_are_whole_or_absent(command, tmp_path, shop, form):
    code, _, err = command("train", shop, *MF, "--out", "run")
    assert code == 0, err
    with small_files(500):
        code, _, err = command("export", "run", "--out", "vectors", "--format", form)
    assert code == 2 and "vectors: cannot be written" in err.splitlines()[-1]
    assert "Traceback" not in err and not (tmp_path / "vectors").exists()


def test_rows_of_a_query_are_whole_or_absent(tmp_path, rows, monkeypatch):
    monkeypatch.setattr(snapshot, "read_query", lambda uri, query: rows)
    with small_files(500), pytest.raises(RunError, match="shop.parquet: cannot be written"):
        snapshot.snapshot("sqlite:///shop.db", "select 1", tmp_path / "shop.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_no_byte_keeps_no_trace(tmp_path):
    for make in (
        lambda: claim(tmp_path, False, False),
        lambda: prepare_folder(tmp_path),
        lambda: Store(tmp_path).prepare(),
    ):
        with small_files(0), pytest.raises(RunError, match="cannot be written"):
            make()
        assert list(tmp_path.iterdir()) == []


def test_an_unfinished_training_is_not_begun_again_in_silence(command, tmp_path, shop):
    """The command of a killed training, without --resume: its hours are not thrown away."""
    run = tmp_path / "run"
    run.mkdir()
    left = run / "checkpoint.safetensors"
    left.write_bytes(b"hours of work")
    query = ["sqlite:///none.db", "--query", "select 1"]
    for words in (
        ["train", shop],
        ["train", *query],
        ["update", "old", shop],
        ["update", "old", *query],
    ):
        if words[0] == "update" and not (tmp_path / "old").exists():
            assert command("train", shop, *MF, "--out", "old")[0] == 0
        code, out, err = command(*words, "--out", "run")
        assert (code, out) == (2, "")
        assert err.splitlines()[-1] == (
            "error: run: holds an unfinished training; --resume to go on, or --overwrite"
        )
        assert files(run) == {left.name: b"hours of work"}
    code, _, err = command("train", shop, *MF, "--out", "run", "--overwrite")
    assert code == 0 and not left.exists(), err


def test_files_take_their_place_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replaced(path) as part:
        part.write_text("half")
        assert path.read_text() == "old" and part == part_of(path)
        _ = 1 / 0
    assert path.read_text() == "old" and not part_of(path).exists()
    with replaced(path) as part:
        part.write_text("new")
        part.chmod(0o600)
    assert path.read_text() == "new"
    (tmp_path / "b.txt").touch()
    assert (
        path.stat().st_mode == (tmp_path / "b.txt").stat().st_mode
    )  # others may read it as any file


def test_files_that_belong_together(tmp_path):
    """The last one is gone while the others change, and nothing changes before all are written."""
    one, last = tmp_path / "one", tmp_path / "last"
    replace_together({last: lambda p: p.write_text("1"), one: lambda p: p.write_text("1")}, last)
    assert files(tmp_path) == {"one": b"1", "last": b"1"}

    def fails(part: Path) -> None:
        part.write_text("2")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        replace_together({one: lambda p: p.write_text("2"), last: fails}, last)
    assert files(tmp_path) == {"one": b"1", "last": b"1"}
    one.unlink()
    one.mkdir()
    with pytest.raises(OSError):
        replace_together(
            {one: lambda p: p.write_text("2"), last: lambda p: p.write_text("2")}, last
        )
    assert not last.exists()  # parts of two versions: it is no longer whole


def test_what_a_killed_writer_left_goes_with_the_next_run(command, tmp_path, shop):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("checkpoint.safetensors", "model.safetensors", "metrics.json"):
        (run / f"{name}{PART}").write_bytes(b"half")
    with pytest.raises(RunError, match="not a finished run"):
        load_run(run)
    code, _, err = command("train", shop, *MF, "--out", "run")
    assert code == 0, err
    assert sorted(path.suffix for path in run.iterdir()) == sorted(
        [".yaml", ".jsonl", ".parquet", ".json", ".safetensors"]
    )
    assert len(Recommender.load(run).recommend([1], 3)) == 3
