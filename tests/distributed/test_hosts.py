"""Two machines: two network namespaces, which see each other by a virtual cable only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from ssmrec.data import synthetic
from ssmrec.training import load_run
from together import LIMIT

ADDRESSES = ("10.201.77.1", "10.201.77.2")


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Names of two namespaces with a cable, `cable` in both; skipped where the machine permits none."""
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip` (iproute2)")
    names = [f"ssmrec-{os.getpid()}-{number}" for number in range(2)]
    try:
        for name in names:
            ip("netns", "add", name)
        ip(
            "link",
            "add",
            "cable",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "cable",
            "netns",
            names[1],
        )
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")
    except OSError as error:
        _remove(names)
        pytest.skip(f"no network namespaces here ({error})")
    yield names
    _remove(names)


def _remove(names: list[str]) -> None:
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def sent(name: str) -> int:
    """Bytes that have gone into the cable."""
    told = subprocess.run(
        ["ip", "netns", "exec", name, "cat", "/sys/class/net/cable/statistics/tx_bytes"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(told.stdout)


@pytest.mark.slow
def test_two_machines_train_together(hosts, tmp_path, command):
    pairs = synthetic(60, 40, 600)
    frame = pl.DataFrame({"user": pairs.rows, "item": pairs.indices})
    frame.write_csv(tmp_path / "clicks.csv")
    words = ["train", "clicks.csv", "--model", "mf", "--epochs", "2", "--set", "model.dim=8"]
    launch = [sys.executable, "-m", "ssmrec", "launch", "-n", "1", "--hosts", "2"]
    meet = ["--meeting", f"{ADDRESSES[0]}:29513"]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    running = []
    for host, name in enumerate(hosts):
        place = ["ip", "netns", "exec", name, *launch, "--host", str(host), *meet]
        running.append(
            subprocess.Popen(
                [*place, *words, "--out", "run"], cwd=tmp_path, env=variables, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    told = [one.communicate(timeout=LIMIT) for one in running]
    assert [one.returncode for one in running] == [0, 0], told
    assert "run folder: run" in told[0][0] and not told[1][0]
    assert all(sent(name) > 20_000 for name in hosts)
    together = load_run(Path(tmp_path / "run"))[0]
    code, _, err = command(*words, "--out", "alone")
    assert code == 0, err
    assert together.metrics["test"] == load_run(tmp_path / "alone")[0].metrics["test"]
