"""Machines that do not find each other: one line, in a time that is told."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from processes import free_port
from together import LIMIT, lines

HERE = ("launch", "-n", "1", "--hosts", "2", "--host")
TRAIN = ("train", "online-retail", "--model", "mf")


def test_a_port_in_use_is_refused(command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, err = command(*HERE, "0", "--meeting", place, *TRAIN)
    assert code == 2
    assert err == (
        f"error: --meeting {place}: the port cannot be opened here (Address already in use): take "
        "another one, on all machines\n"
    )


def test_machine_0_that_does_not_come_is_told_in_time(command):
    place = f"127.0.0.1:{free_port()}"
    code, _, err = command(*HERE, "1", "--meeting", place, "--wait", "1s", *TRAIN)
    waiting, failed = err.splitlines()
    assert code == 2 and waiting.endswith(f"waiting for machine 0 at {place}, for 1 s at most")
    assert failed.startswith(
        f"error: --meeting {place}: nobody was there within 1 s: start machine 0"
    )


@pytest.mark.slow
def test_another_machine_that_does_not_come_is_told_by_machine_0(tmp_path):
    """And nothing is left in the folder of temporary files."""
    place = f"127.0.0.1:{free_port()}"
    words = [*HERE, "0", "--meeting", place, "--wait", "1s", *TRAIN]
    done = subprocess.run(
        [sys.executable, "-m", "ssmrec", *words], cwd=tmp_path, text=True, capture_output=True,
        env=os.environ | {"TMPDIR": str(tmp_path)}, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert f"waiting for 1 other machine at {place}, for 1 s at most" in done.stderr
    (line,) = lines(done.stderr)
    assert line.startswith(f"error: --meeting {place}: the 2 machines do not reach each other (")
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--wait", "5s"], "--host, --meeting and --wait are for several machines"),
        (
            ["--hosts", "2", "--meeting", "localhost:29500", "--wait", "0"],
            "must be a second at least",
        ),
        (
            ["--hosts", "2", "--meeting", "localhost:29500", "--wait", "long"],
            "must look like 30s or 10m",
        ),
    ],
)
def test_a_wait_that_is_none_is_refused(command, words, said):
    code, _, err = command("launch", "-n", "2", *words, *TRAIN)
    assert code == 2 and said in err and len(err.splitlines()) == 1
