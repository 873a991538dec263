"""The same command gives the same files; the run records what it takes to repeat it."""

from __future__ import annotations

import json

import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file

from ssmrec.data import load

CHOICES = {
    "lightgcn, in-batch": ["--model", "lightgcn", "--loss", "ssm"],
    "spectral start": ["--model", "lightgcn", "--set", "model.init=spectral"],
    "mf, own popular negatives": [
        "--model", "mf", "--loss", "bpr", "--negatives", "popularity", "--set", "negatives.shared=false",
    ],
    "svdpp, full softmax": ["--model", "svdpp", "--loss", "softmax"],
}  # fmt: skip


def run(command, shop, out, *words):
    base = ["--epochs", 2, "--set", "train.batch_size=64", "--set", "train.threads=1"]
    code, _, err = command("train", shop, *base, *words, "--out", out)
    assert code == 0, err
    return load_file(shop.parent / out / "model.safetensors")


@pytest.mark.parametrize("words", CHOICES.values(), ids=CHOICES.keys())
def test_same_seed_same_files(command, shop, words):
    one, two = (run(command, shop, name, *words, "--seed", 5) for name in ("one", "two"))
    folders = [shop.parent / name for name in ("one", "two")]
    for name in ("model.safetensors", "config.yaml"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    for timed in ("seconds", "peak_memory_bytes"):
        assert [part.pop(timed) for part in metrics]
    assert metrics[0] == metrics[1]
    other = run(command, shop, "other", *words, "--seed", 6)
    changed = [
        name
        for name in one
        if name.startswith("model.") and not torch.equal(one[name], other[name])
    ]
    assert changed and one.keys() == two.keys()


def test_the_run_records_what_repeats_it(command, tmp_path, shop):
    run(command, shop, "run", "--seed", 5)
    record = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert record["settings"]["seed"] == 5
    assert record["threads"] == torch.get_num_threads() == 1
    assert {"python", "machine", "ssmrec", "torch", "numpy", "numba", "polars"} <= record[
        "versions"
    ].keys()
    assert len(record["data_fingerprint"]) == 64
    # and they are enough: the settings as a recipe give the same model
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(record["settings"]))
    code, _, err = command("train", "--recipe", "again.yaml", "--out", "again")
    assert code == 0, err
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "again"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_fingerprint_of_other_rows_differs(command, tmp_path, shop, rows):
    """One item changed in one row of 400: `evaluate` refuses, and measures when told to."""
    run(command, shop, "run")
    first = rows["item"][0]
    free = next(i for i in range(30) if i not in rows["item"][:10].to_list())
    changed = rows.with_columns(
        item=pl.when(pl.int_range(pl.len()) == 0).then(free).otherwise("item")
    )
    assert load(changed).fingerprint != load(rows).fingerprint and free != first
    changed.write_csv(shop)
    code, out, err = command("evaluate", "run")
    assert (code, out) == (2, "") and "the data differ from those the run was trained on" in err
    code, out, err = command("evaluate", "run", "--any-data")
    assert code == 0 and "most popular" in out
    rows.sample(fraction=1, shuffle=True, seed=3).write_csv(shop)  # another order is the same data
    code, _, err = command("evaluate", "run")
    assert code == 0, err
