"""One process at a time writes a run to a folder."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from ssmrec.errors import RunError
from ssmrec.storage.held import held


def test_a_folder_is_held_once_and_free_afterwards(tmp_path):
    told = pytest.raises(RunError, match="another command writes its run there now")
    with held(tmp_path), told, held(tmp_path):
        raise AssertionError
    with pytest.raises(ZeroDivisionError), held(tmp_path):
        _ = 1 / 0
    with held(tmp_path):
        pass


def test_a_killed_process_holds_nothing(tmp_path):
    code = f"""
import pathlib, time
from ssmrec.storage.held import held
with held(pathlib.Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(RunError), held(tmp_path):
            raise AssertionError
    finally:
        child.kill()
        child.wait()
    with held(tmp_path):
        pass


@pytest.mark.slow
def test_two_trainings_into_one_new_folder_are_one(tmp_path):
    """The second is refused, and what the first writes is whole."""
    words = [sys.executable, "-m", "ssmrec", "train", "online-retail", "--model", "mf", "--loss", "bpr",
             "--epochs", "500", "--set", "train.patience=500", "--out", "run"]  # fmt: skip
    first = subprocess.Popen([*words, "--seed", "1"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while not (tmp_path / "run" / "checkpoint.safetensors").exists():
            assert time.monotonic() < end and first.poll() is None
            time.sleep(0.05)
        for more in (["--overwrite"], ["--resume"]):
            second = subprocess.run([*words, *more], cwd=tmp_path, capture_output=True, text=True)
            assert second.returncode == 2
            assert "run: another command writes its run there now" in second.stderr
    finally:
        first.kill()
        first.wait()
