"""What is told of a run when it is taken up, and what is not read."""

from __future__ import annotations

import os
import threading

import numpy as np
import polars as pl
import pytest

from ssmrec.data import Interactions, Vocabulary
from ssmrec.errors import RunError
from ssmrec.recommender import Recommender
from ssmrec.serving.index import facts_of
from ssmrec.serving.index import load as load_index
from ssmrec.serving.service import LONGEST, Service, load


@pytest.fixture
def named(tmp_path):
    """`named(users, items)`: saves a run of ids of these lengths as the same folder."""

    def save(users, items):
        sides = [
            Vocabulary(pl.Series([chr(97 + n) * size for n, size in enumerate(sizes)]))
            for sizes in (users, items)
        ]
        at = np.arange(4).repeat(4)
        train = Interactions.from_pairs(at, np.tile(np.arange(4), 4), *sides)
        fitted = Recommender({"name": "svd", "dim": 2}, train={"threads": 1}).fit(
            train, progress=False
        )
        fitted.save(tmp_path / "run", overwrite=True)
        return tmp_path / "run"

    return save


def test_ids_that_are_too_long_to_be_asked_for_are_counted(named, caplog):
    folder = named([1, 2, 3, LONGEST], [1, 2, 3, 4])
    service = Service(load(folder))
    assert not caplog.records
    named([1, 2, LONGEST + 1, LONGEST], [LONGEST + 1, 600, 9999, 4])
    assert service.look()
    told = "1 users and 3 items have ids of more than 512 characters, which cannot be asked for"
    assert [line.message for line in caplog.records if line.levelname == "WARNING"] == [
        f"{folder}: {told}"
    ]


def in_time(work):
    """What `work()` returns; a failure where it waits for ever."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(20)
    assert found, "it waits"
    return found[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_in_the_place_of_a_file_stops_no_watcher(models, tmp_path, caplog):
    models("lightgcn").save(tmp_path / "run")
    service = Service(load(tmp_path / "run"))
    (tmp_path / "run/model.safetensors").unlink()
    os.mkfifo(tmp_path / "run/model.safetensors")
    assert in_time(service.look) is False and service.failures == 1
    told = "run/model.safetensors: damaged or not of this run (ValueError: is no regular file)"
    assert told in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize("other", [False, True])
def test_a_pipe_is_no_index(live, tmp_path, other):
    file = tmp_path / "index.hnsw"
    pipe, rest = (facts_of(file), file) if other else (file, facts_of(file))
    rest.write_text('{"sha256": "", "kind": "hnsw", "size": 1, "version": ""}')
    os.mkfifo(pipe)

    def told():
        with pytest.raises(RunError) as caught:
            load_index(file, live.ranker, "")
        return str(caught.value)

    assert "is no regular file" in in_time(told)
