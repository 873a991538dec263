"""The command as a process: swaps and indexes over real sockets, and an end that answers first."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import polars as pl
import pytest
import torch

from ssmrec.data import Interactions, Vocabulary
from ssmrec.recommender import Recommender
from ssmrec.serving.libraries import KINDS, MODULES

pytest.importorskip("uvicorn", reason="extra `serve` is not installed")

USERS, ITEMS, K = 100, 3000, 10


@contextmanager
def served(run: Path, *words: str) -> Iterator[str]:
    """The address of `ssmrec serve run`; it ends by SIGTERM."""
    command = [sys.executable, "-m", "ssmrec", "serve", str(run), "--port", "0", *words]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        lines = iter(server.stderr.readline, "")
        yield next(line for line in lines if " at http://" in line).split()[-1]
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) in (0, -signal.SIGTERM)


def ask(address: str, path: str, body: dict | None = None):
    content = None if body is None else json.dumps(body).encode()
    request = Request(address + path, content, {"content-type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_a_new_run_in_the_folder_is_taken_up(models, tmp_path):
    folder = tmp_path / "run"
    models("lightgcn").save(folder)
    with served(folder, "--watch", "0.1") as address:
        first = ask(address, "/health")
        assert first["model"] == "lightgcn"
        models("mf").save(folder, overwrite=True)
        now = first
        for _ in range(200):
            now = ask(address, "/health")
            if now["run"] != first["run"]:
                break
            time.sleep(0.1)
        assert (now["model"], now["swaps"], now["failed_swaps"]) == ("mf", 1, 0)
        found = ask(address, "/recommend?user=101&k=4")["lists"][0]["items"]
        want = models("mf").recommend([101], 4)
        assert [row["item"] for row in found] == want["item"].to_list()


@pytest.mark.slow
def test_a_model_cut_in_place_does_not_end_the_service(models, tmp_path):
    """Nor is it taken up, until it is whole again."""
    folder = tmp_path / "run"
    models("lightgcn").save(folder)
    model = folder / "model.safetensors"
    whole, path = model.read_bytes(), "/recommend?user=101&k=9"
    with served(folder, "--watch", "0.1") as address:
        first = ask(address, path)
        for change, count in (
            (lambda: os.truncate(model, 100), "failed_swaps"),
            (lambda: model.write_bytes(whole), "swaps"),
        ):
            assert ask(address, "/health")["swaps"] == 0
            change()
            for _ in range(200):
                assert ask(address, path) == first
                if ask(address, "/health")[count]:
                    break
                time.sleep(0.05)
            assert ask(address, "/health")[count] == 1


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A run of 3000 items of very different lengths, among which a graph does not find all."""
    random = np.random.default_rng(0)
    user = np.concatenate([np.arange(ITEMS) % USERS, random.integers(0, USERS, ITEMS)])
    item = np.concatenate([np.arange(ITEMS), random.integers(0, ITEMS, ITEMS)])
    sides = [Vocabulary(pl.Series(np.arange(n))) for n in (USERS, ITEMS)]
    pairs = np.unique(np.column_stack([user, item]), axis=0)
    train = Interactions.from_pairs(*pairs.T, *sides)
    settings = {"epochs": 1, "batch_size": 4096, "threads": 1}
    made = Recommender(
        {"name": "mf", "dim": 32}, ranking={"similarity": "dot"}, train=settings
    ).fit(train, progress=False)
    table = made.trained_.model.state_dict()["table"]
    table.normal_(generator=torch.Generator().manual_seed(0))
    table[USERS:] *= torch.from_numpy(random.lognormal(0, 0.8, (ITEMS, 1))).float()
    made.save(folder := tmp_path_factory.mktemp("large") / "run")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_index_answers_over_http_as_well_as_was_printed(large, kind, command, tmp_path):
    """The recall that `ssmrec index` told, of all users, and exact scores, from an index elsewhere."""
    pytest.importorskip(MODULES[kind], reason="extra `index` is not installed")
    words = ["--kind", kind, "--top", K, "--out", "far/away"]
    code, out, err = command("index", large, *words)
    assert code == 0, err
    told = float(re.search(r"finds ([\d.]+)% of the exact top 10", out)[1])
    assert f"serve it: ssmrec serve {large} --index far/away/index.{kind}" in out
    exact = Recommender.load(large).recommend(k=K)
    with served(large, "--index", str(tmp_path / "far/away")) as address:
        assert ask(address, "/health")["index"] == kind
        lists = ask(address, "/recommend", {"users": list(range(USERS)), "k": K})["lists"]
    found = pl.DataFrame([{"user": part["user"], **row} for part in lists for row in part["items"]])
    both = exact.join(found, on=["user", "item"], suffix="_found")
    assert 90 < told <= 100 * len(both) / len(exact) + 0.005
    np.testing.assert_allclose(both["score_found"], both["score"], rtol=1e-5)
    seen = Recommender.load(large).trained_.seen.frame()
    assert found.join(seen, on=["user", "item"]).is_empty()


@pytest.mark.slow
def test_the_end_answers_first(models, tmp_path):
    """SIGTERM while eight clients ask: an answer is whole, or there is none as the connection is gone."""
    models("lightgcn").save(tmp_path / "run")
    want = [int(item) for item in models("lightgcn").recommend([101], 9)["item"]]
    whole, faults = [], []

    def asking(address):
        while not faults:
            try:
                content = ask(address, "/recommend?user=101&k=9")
            except (URLError, ConnectionError) as error:
                faults.append(error)
                return
            whole.append([row["item"] for row in content["lists"][0]["items"]])

    with ThreadPoolExecutor(8) as clients, served(tmp_path / "run") as address:
        asked = [clients.submit(asking, address) for _ in range(8)]
        while len(whole) < 100:
            time.sleep(0.01)
            assert not faults
    assert [task.result() for task in asked] == [None] * 8
    assert whole == [want] * len(whole)
    for error in faults:
        reason = getattr(error, "reason", error)
        assert isinstance(reason, (ConnectionRefusedError, ConnectionResetError)), repr(error)
