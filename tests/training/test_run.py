"""The run folder: there and back, and what a reader says of a folder that is not whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from ssmrec.errors import RunError, SsmrecError
from ssmrec.training import load_run, save_run, train_run

FILES = ["config.yaml", "history.jsonl", "ids.parquet", "metrics.json", "model.safetensors"]


@pytest.fixture
def trained(small, tastes):
    return train_run(small(train={"epochs": 2}), tastes)


@pytest.fixture
def folder(trained, tmp_path):
    save_run(tmp_path / "run", trained, "abc")
    return tmp_path / "run"


def test_there_and_back(trained, folder):
    assert sorted(path.name for path in folder.iterdir()) == FILES
    again, fingerprint = load_run(folder)
    assert fingerprint == "abc"
    assert again.config == trained.config
    assert again.history == trained.history
    assert again.metrics == trained.metrics
    assert again.train.fingerprint == trained.train.fingerprint
    assert again.seen.fingerprint == trained.seen.fingerprint
    assert torch.equal(again.model.table, trained.model.table)
    assert torch.equal(again.model.vectors().items, trained.model.vectors().items)


@pytest.mark.parametrize("protocol", ["refit", "fixed", "published"])
def test_every_protocol_goes_there_and_back(small, tastes, tmp_path, protocol):
    done = train_run(small(train={"epochs": 2, "protocol": protocol}), tastes)
    save_run(tmp_path, done, "")
    again, _ = load_run(tmp_path)
    assert torch.equal(again.model.table, done.model.table) and again.metrics == done.metrics
    assert again.train.fingerprint == done.train.fingerprint
    assert again.seen.fingerprint == done.seen.fingerprint


def test_text_ids_come_back_as_text(small, text_tastes, tmp_path):
    done = train_run(small(model={"name": "mf", "init": "spectral"}), text_tastes)
    save_run(tmp_path, done, "")
    again, _ = load_run(tmp_path)
    assert again.train.users.ids.dtype == pl.String
    assert again.train.items.decode([0, 39]).to_list() == ["i100", "i139"]
    assert torch.equal(again.model.table, done.model.table)


def test_a_run_is_read_where_the_system_writes_other_text(trained, tmp_path):
    data = trained.config.data.model_copy(update={"source": "käse.csv"})
    config = trained.config.model_copy(update={"data": data})
    save_run(tmp_path / "run", replace(trained, config=config), "abc")
    code = (
        "import pathlib, sys; from ssmrec.training import load_run; "
        "print(ascii(load_run(pathlib.Path(sys.argv[1]))[0].config.data.source))"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = subprocess.run(words, env=os.environ | plain, capture_output=True, text=True)
    assert done.stdout.strip() == "'k\\xe4se.csv'", done.stderr


def test_the_configuration_is_complete_and_plain(folder, trained):
    record = yaml.safe_load((folder / "config.yaml").read_text())
    assert record["format"] == 1
    assert record["settings"] == trained.config.model_dump(mode="json")
    assert {"ssmrec", "torch", "numpy", "python"} <= record["versions"].keys()
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert rows == trained.history


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize("name", FILES)
def test_a_pipe_is_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    told = []

    def read():
        with pytest.raises(RunError) as caught:
            load_run(folder)
        told.append(str(caught.value))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert (
        told and f"{name}: damaged or not of this run (ValueError: is no regular file)" in told[0]
    )


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"{[garbage: \xff", None])
def test_a_damaged_file_is_one_clear_error(folder, name, content):
    path = folder / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    if (name, content) == ("history.jsonl", b""):
        return  # no epochs: nothing is missing
    with pytest.raises(
        RunError, match=r": damaged or not of this run \(|not a finished run"
    ) as caught:
        load_run(folder)
    assert str(folder / name) in str(caught.value) or name == "metrics.json"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_model_is_an_error(folder, kept):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(RunError, match="model.safetensors: damaged or not of this run"):
        load_run(folder)


@pytest.mark.parametrize("place", [0.5, 0.999])
def test_a_flipped_bit_in_a_model_is_an_error(folder, place):
    path = folder / "model.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[int(place * len(damaged))] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(RunError, match=r"model\.safetensors: .*not those that were written"):
        load_run(folder)


def test_a_model_that_does_not_fit_the_ids_is_an_error(folder):
    frame = pl.read_parquet(folder / "ids.parquet")
    frame.filter(~((pl.col("side") == "item") & (pl.col("index") == 39))).write_parquet(
        folder / "ids.parquet"
    )
    with pytest.raises(RunError, match="model.safetensors: damaged or not of this run"):
        load_run(folder)


def test_a_missing_tensor_is_an_error(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.table"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(RunError, match="model.safetensors: damaged or not of this run"):
        load_run(folder)


def test_a_setting_nobody_knows_names_the_key(folder):
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("batch_size", "batch_sise"))
    with pytest.raises(SsmrecError, match="batch_sise"):
        load_run(folder)


def test_a_later_format_asks_for_an_upgrade(folder):
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("format: 1", "format: 99"))
    with pytest.raises(RunError, match="has format 99, this ssmrec reads up to 1: upgrade"):
        load_run(folder)


def test_an_unfinished_training_is_told_apart(tmp_path):
    with pytest.raises(RunError, match="not a finished run"):
        load_run(tmp_path / "nothing")
    (tmp_path / "checkpoint.safetensors").write_bytes(b"x")
    with pytest.raises(RunError, match="unfinished training: repeat its command with --resume"):
        load_run(tmp_path)


def test_an_interrupted_write_does_not_look_finished(trained, tmp_path):
    """The ids cannot be written: no metrics.json, also where an older run had left one."""
    blocked = tmp_path / "run"
    (blocked / "ids.parquet").mkdir(parents=True)
    (blocked / "metrics.json").write_text("{}")
    with pytest.raises(RunError, match="cannot be written"):
        save_run(blocked, trained, "")
    assert not (blocked / "metrics.json").exists()
    with pytest.raises(RunError, match="not a finished run"):
        load_run(blocked)


def test_a_file_in_the_way_is_an_error(trained, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError, match="run: the run cannot be written"):
        save_run(tmp_path / "run", trained, "")


def test_a_second_save_replaces_the_first(trained, folder):
    save_run(folder, trained, "def")
    assert load_run(folder)[1] == "def"
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_a_model_is_not_read_with_ids_it_was_not_saved_with(folder):
    """Ids of the same number, in another order: every list would be somebody else's."""
    path = folder / "ids.parquet"
    ids = pl.read_parquet(path)
    users = ids.filter(pl.col("side") == "user")
    swapped = users.with_columns(pl.col("id").reverse())
    pl.concat([swapped, ids.filter(pl.col("side") == "item")]).write_parquet(path)
    with pytest.raises(
        RunError, match=r"was saved with another ids\.parquet than the one beside it"
    ):
        load_run(folder)
