"""`ssmrec serve`: where it listens, and the titles of the run that is live."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from functools import partial

import polars as pl
import pytest

from ssmrec.cli.serve import Titles
from ssmrec.data import Interactions, Split, Vocabulary
from ssmrec.errors import ConfigError, DataError
from ssmrec.recommender import Recommender
from ssmrec.serving.listening import listening
from ssmrec.serving.service import Service, load
from ssmrec.training import save_run


@pytest.fixture(scope="module")
def trained():
    """Six users with four of eight items each."""
    sides = [Vocabulary(pl.Series(range(n))) for n in (6, 8)]
    pairs = Interactions.from_pairs(
        [n // 4 for n in range(24)], [(n // 4 + n % 4) % 8 for n in range(24)], *sides
    )
    settings = {"epochs": 1, "batch_size": 8, "threads": 1}
    fitted = Recommender({"name": "mf", "dim": 4}, train=settings).fit(pairs, progress=False)
    return fitted.trained_


@pytest.fixture
def shops(tmp_path, trained):
    """Two data sets, `lamps` and `books`, and `save(name)`: their run in tmp_path/live."""
    for name in ("lamps", "books"):
        (tmp_path / name).mkdir()
        rows = {"item": range(8), "title": [f"{name} {n}" for n in range(8)]}
        pl.DataFrame(rows).write_csv(tmp_path / name / "items.csv")

    def save(name):
        data = trained.config.data.model_copy(update={"source": str(tmp_path / name)})
        config = trained.config.model_copy(update={"data": data})
        split = Split(trained.train, None, None, name)
        save_run(tmp_path / "live", replace(trained, config=config), split.fingerprint)

    return save


def test_a_swap_takes_the_titles_of_the_new_run(shops, tmp_path, caplog):
    shops("lamps")
    read = partial(load, titles=Titles(None))
    service = Service(read(tmp_path / "live"), read)
    assert service.loaded.titles["5"] == "lamps 5"
    shops("books")
    assert service.look() and service.loaded.titles["5"] == "books 5"
    (tmp_path / "lamps/items.csv").write_text("item,colour\n5,red\n")
    shops("lamps")  # its titles have a fault: it is live without any, not with those of the books
    assert service.look() and service.loaded.titles == {}
    assert caplog.text.count("without titles: ") == 1


def test_items_without_titles_are_served_but_a_file_asked_for_must_have_them(
    shops, tmp_path, caplog
):
    table = tmp_path / "lamps/items.csv"
    table.write_text("item,category,price\n5,lamp,3.5\n")
    shops("lamps")
    assert load(tmp_path / "live", titles=Titles(None)).titles == {}
    assert caplog.text.count("without titles: ") == 1
    assert f"{table}: needs a column of item ids" in caplog.text
    with pytest.raises(
        DataError, match=r"one of titles \(title, name, description\); it has item, cat"
    ):
        load(tmp_path / "live", titles=Titles(table))
    table.write_text("sku,title,category\n5,Lava lamp,lamp\n")
    assert load(tmp_path / "live", titles=Titles(None)).titles == {"5": "Lava lamp"}


def test_the_file_of_titles_is_read_again_and_its_loss_stops_no_swap(shops, tmp_path, caplog):
    file = tmp_path / "titles.csv"
    file.write_text("item,title\n5,old\n")
    shops("lamps")
    read = partial(load, titles=Titles(file))
    service = Service(read(tmp_path / "live"), read)
    file.write_text("item,title\n5,new\n")
    shops("books")
    assert service.look() and service.loaded.titles == {"5": "new"}
    file.unlink()
    shops("lamps")
    assert service.look() and service.loaded.titles == {"5": "new"}
    assert "titles of the new run: " in caplog.text and "titles.csv" in caplog.text


def test_an_address_that_cannot_be_had_is_one_line_and_a_remedy():
    with listening("127.0.0.1", 0) as place:
        port = place.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} \(.*in use\): choose another --port"):
            listening("127.0.0.1", port)
    with listening("127.0.0.1", port) as again:  # it is free at once
        assert again.getsockname()[1] == port
    with pytest.raises(ConfigError, match=r"203\.0\.113\.7, port .*a --host of this machine"):
        listening("203.0.113.7", 0)
    with pytest.raises(ConfigError, match="no host, port"):
        listening("no host", 0)


def test_faults_of_the_address_exit_with_2(shops, tmp_path, command):
    pytest.importorskip("uvicorn", reason="extra `serve` is not installed")
    shops("lamps")
    code, _, err = command("serve", "live", "--port", "99999")
    assert code == 2 and "--port" in err and "65535" in err and "Traceback" not in err
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, _, err = command("serve", "live", "--port", other.getsockname()[1])
    assert code == 2 and "http://" not in err
    assert err.strip().splitlines()[-1].startswith("error: cannot listen at 127.0.0.1, port ")


@pytest.mark.slow
def test_a_free_port_is_told_once_it_is_open(shops, tmp_path):
    pytest.importorskip("uvicorn", reason="extra `serve` is not installed")
    shops("lamps")
    words = [sys.executable, "-m", "ssmrec", "serve", "live", "--port", "0"]
    words += ["--allow-host", "shop.example"]
    server = subprocess.Popen(
        words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert server.stderr is not None
        told = next(line for line in server.stderr if " at http://" in line)
        port = int(told.rpartition(":")[2])
        assert port
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            assert client.makefile("rb").readline().split()[1] == b"200"
        for host, code in ((f"localhost:{port}", b"200"), ("shop.example", b"200"), ("x", b"421")):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                client.sendall(f"GET /health HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
                assert client.makefile("rb").readline().split()[1] == code
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) in (0, -signal.SIGTERM)
