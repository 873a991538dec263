"""A split in files that are mapped into memory is the split that was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from ssmrec.data import Split, load, merge, split
from ssmrec.data.mapped import map_split, shared_folder, write_split
from ssmrec.errors import RunError


def shop(text: bool, valid: float = 0.2) -> Split:
    """With times and weights; some users have no row in a part."""
    random = np.random.default_rng(2)
    frame = pl.DataFrame({"user": random.integers(0, 30, 400), "item": random.integers(0, 50, 400)})
    frame = frame.with_columns(timestamp=pl.Series(random.permutation(400)), weight=pl.lit(2.0))
    if text:
        frame = frame.with_columns(user=pl.format("user {} of the shop", "user").alias("user"))
    return split(load(frame), valid=valid)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("valid", [0.2, 0.0])
def test_the_split_comes_back_and_its_files_may_go(tmp_path, text, valid):
    original = shop(text, valid)
    write_split(original, tmp_path)
    mapped = map_split(tmp_path)
    for file in tmp_path.iterdir():
        file.unlink()
    assert mapped.fingerprint == original.fingerprint
    recomputed = Split(mapped.train, mapped.valid, mapped.test, mapped.strategy)
    assert recomputed.fingerprint == original.fingerprint
    assert (mapped.strategy, mapped.counts) == (original.strategy, original.counts)
    assert mapped.known.fingerprint == original.known.fingerprint
    if original.valid is not None:
        assert mapped.known.fingerprint == merge(original.train, original.valid).fingerprint
    np.testing.assert_array_equal(mapped.train.rows, original.train.rows)
    for array in (mapped.train.indices, mapped.train.rows, mapped.train.indptr):
        assert type(array) is np.ndarray and torch.from_numpy(array) is not None
    assert mapped.train.users.ids.to_list() == original.train.users.ids.to_list()


def test_a_folder_that_cannot_be_filled_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fails(folder: Path) -> None:
        raise KeyError("while writing")

    with pytest.raises(KeyError):
        shared_folder(fails)
    whole = shop(False)
    monkeypatch.setattr(np, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(RunError, match=r"ssmrec-.*No space left.*set TMPDIR"):
        shared_folder(lambda folder: write_split(whole, folder))
    assert not list(tmp_path.iterdir())
