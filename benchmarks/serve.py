"""Load test of `ssmrec serve` on loopback: requests per second, latency, and a swap under load.

    python -m benchmarks.serve --data yelp2018 --connections 16 --seconds 10

Two runs with vectors of the shape asked for are made and a link points to the first; a server is started
on it as a process of its own. Connections ask for one user each, again and again, without pause; half-way
the link is turned to the other run. Every answer is checked: status 200, k items, one of the two runs.
Client and server share the machine's cores. For comparison, in one process without HTTP: the bare matrix
product of 16 users (the panel that one user costs as well) with all items, and product with top-k.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import ssmrec
from benchmarks.harness import ROOT, published
from ssmrec.kernels.products import times_transposed
from ssmrec.ranking import Ranker


def make_runs(data: str, folder: Path) -> tuple[Ranker, list[str]]:
    """Two untrained runs (speed does not depend on what vectors hold), and the ids of the users."""
    train, _ = published(data)
    for number in (0, 1):
        recommender = ssmrec.Recommender("mf", "bpr", train={"epochs": 0}, seed=number)
        recommender.fit(train, progress=False).save(folder / f"run{number}")
    ranker = recommender.ranker()
    return ranker, [str(user) for user in ranker.known_users.to_list()]


def bare(ranker: Ranker, k: int, repeats: int = 50) -> dict[str, float]:
    """Milliseconds of the bare product, and of ranking one user, medians."""
    users, items = ranker.users[:16], ranker.items
    choice = ranker.choice(k)
    calls = {
        "product of 16 users": lambda n: times_transposed(users, items),
        "one user ranked": lambda n: ranker.top(np.array([n]), choice),
        "16 users ranked": lambda n: ranker.top(np.arange(16), choice),
    }
    found = {}
    with torch.no_grad():
        for name, call in calls.items():
            took = []
            for number in range(5 + repeats):
                start = time.perf_counter()
                call(number)
                took.append(time.perf_counter() - start)
            found[name] = 1e3 * float(np.median(took[5:]))
    return found


async def connection(
    port: int, users: list[str], k: int, until: float, seed: int, told: list
) -> None:
    """One connection, one question after the other; (seconds, version or fault) of each to `told`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    random = np.random.default_rng(seed)
    while time.perf_counter() < until:
        user = users[random.integers(len(users))]
        start = time.perf_counter()
        writer.write(f"GET /recommend?user={user}&k={k} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        size = next(int(x.split(":")[1]) for x in lines if x.startswith("content-length:"))
        content = json.loads(await reader.readexactly(size))
        took = time.perf_counter() - start
        good = lines[0].split()[1] == "200" and len(content["lists"][0]["items"]) == k
        told.append((took, content["run"] if good else f"fault: {lines[0]}"))
    writer.close()


async def load(port: int, users: list[str], asked: argparse.Namespace, turn) -> list:
    told: list = []
    until = time.perf_counter() + asked.seconds
    tasks = [
        asyncio.create_task(connection(port, users, asked.k, until, n, told))
        for n in range(asked.connections)
    ]
    await asyncio.sleep(asked.seconds / 2)
    turn()
    await asyncio.gather(*tasks)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="online-retail")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--port", type=int, default=8765)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ranker, users = make_runs(asked.data, folder)
        facts = bare(ranker, asked.k)
        link = folder / "live"
        link.symlink_to(folder / "run0")

        def turn() -> None:
            (folder / "next").symlink_to(folder / "run1")
            os.replace(folder / "next", link)

        words = ["serve", str(link), "--port", str(asked.port), "--watch", "0.2"]
        server = subprocess.Popen([sys.executable, "-m", "ssmrec", *words], cwd=ROOT)
        try:
            wait_for(asked.port, server)
            told = asyncio.run(load(asked.port, users, asked, turn))
        finally:
            server.terminate()
            server.wait(20)
    report(asked, facts, told)


def wait_for(port: int, server: subprocess.Popen) -> None:
    """Until the server answers."""
    import socket

    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit("the server did not start")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server does not answer")


def report(asked: argparse.Namespace, facts: dict[str, float], told: list) -> None:
    seconds = 1e3 * np.array([took for took, _ in told])
    p50, p99 = np.percentile(seconds, [50, 99])
    runs = {version: sum(v == version for _, v in told) for version in {v for _, v in told}}
    faults = sum(count for version, count in runs.items() if version.startswith("fault"))
    print(f"{asked.data}, {asked.connections} connections, k={asked.k}, {asked.seconds:g} s")
    for name, value in facts.items():
        print(f"  {name}: {value:.2f} ms ({1e3 / value:,.0f} a second)")
    print(f"  served: {len(told) / asked.seconds:,.0f} requests a second, p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
          f"longest {seconds.max():.1f} ms")  # fmt: skip
    print(f"  {len(told):,} answers, {faults} lost or wrong, by run {runs}")


if __name__ == "__main__":
    main()
