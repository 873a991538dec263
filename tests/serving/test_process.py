"""The command as a process: a swap over real sockets, and an end that answers first."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest

pytest.importorskip("uvicorn", reason="extra `serve` is not installed")


def get(port: int, path: str):
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_a_new_run_in_the_folder_is_taken_up(models, tmp_path):
    folder = tmp_path / "run"
    models("lightgcn").save(folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["serve", str(folder), "--port", str(port), "--watch", "0.1"]
    server = subprocess.Popen([sys.executable, "-m", "ssmrec", *words])
    try:
        first = None
        for _ in range(600):
            assert server.poll() is None
            try:
                first = get(port, "/health")
                break
            except OSError:
                time.sleep(0.1)
        assert first is not None and first["model"] == "lightgcn"
        models("mf").save(folder, overwrite=True)
        for _ in range(200):
            now = get(port, "/health")
            if now["run"] != first["run"]:
                break
            time.sleep(0.1)
        assert (now["model"], now["swaps"], now["failed_swaps"]) == ("mf", 1, 0)
        found = get(port, "/recommend?user=101&k=4")["lists"][0]["items"]
        want = models("mf").recommend([101], 4)
        assert [row["item"] for row in found] == want["item"].to_list()
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) in (0, -signal.SIGTERM)
