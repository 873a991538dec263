"""The command in several processes: the same run folder, one line for an error, and no hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file

from ssmrec.training import load_run

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
LAUNCH = [sys.executable, "-m", "ssmrec", "launch", "-n", "2"]
FAULTY = Path(__file__).parents[1] / "faulty.py"
SMALL = ["--set", "model.dim=8", "--set", "train.batch_size=64", "--set", "train.threads=1"]


@pytest.fixture
def shop(tmp_path) -> Path:
    """40 users with 10 of 30 items each, in the order of time."""
    random = np.random.default_rng(0)
    items = np.concatenate([random.choice(30, 10, replace=False) for _ in range(40)])
    rows = {"user": np.repeat(np.arange(40), 10), "item": items, "ts": np.arange(400)}
    pl.DataFrame(rows).write_csv(tmp_path / "shop.csv")
    return tmp_path / "shop.csv"


def ended(words: list[object], cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command that has come to its end, within four minutes."""
    free = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    more = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        list(map(str, words)), cwd=cwd, env=free | more, capture_output=True, text=True, timeout=240
    )


def lines(text: str) -> list[str]:
    """The lines that tell of an error."""
    return [line for line in text.splitlines() if "error" in line.lower() or "Traceback" in line]


def metrics(folder: Path) -> dict:
    told = json.loads((folder / "metrics.json").read_text())
    return {name: told[name] for name in ("test", "valid", "counts", "best_epoch", "epochs")}


def test_torchrun_writes_the_run_that_one_process_writes(command, shop, tmp_path):
    words = ["train", shop, "--model", "lightgcn", "--epochs", 3, *SMALL]
    code, _, err = command(*words, "--out", "alone")
    assert code == 0, err
    done = ended([*TORCHRUN, "-m", "ssmrec", *words, "--out", "together"], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("run folder: together") == 1  # one process tells
    assert metrics(tmp_path / "together") == metrics(tmp_path / "alone")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "together"))
    assert one.keys() == two.keys()
    np.testing.assert_allclose(two["model.table"], one["model.table"], rtol=1e-5, atol=1e-6)
    assert sorted(p.name for p in (tmp_path / "together").iterdir()) == sorted(
        p.name for p in (tmp_path / "alone").iterdir()
    )
    load_run(tmp_path / "together")


def test_what_all_processes_meet_is_one_line_of_process_0(shop, tmp_path):
    done = ended([*LAUNCH, "train", shop, "--loss", "directau"], tmp_path)
    assert done.returncode == 2
    assert len(lines(done.stderr)) == 1, done.stderr
    assert lines(done.stderr)[0].startswith(
        "error: loss=directau looks at all rows of a batch at once"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("data", "error: process 1: clicks.csv: row 7 cannot be read"),
        ("other", "error: process 1 has another data than process 0"),
        ("step", "error: process 1: a fault in a step"),
    ],
)
def test_a_failure_of_one_process_ends_all(shop, tmp_path, fault, said):
    words = [*TORCHRUN, FAULTY, fault, "train", shop, "--model", "mf", "--epochs", 3, *SMALL]
    done = ended(words, tmp_path)
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if line.startswith("error:")] == [
        line for line in done.stderr.splitlines() if line.startswith(said)
    ] and said in done.stderr, done.stderr


def test_a_training_that_diverges_ends_all(shop, tmp_path):
    words = ["train", shop, "--model", "mf", "--epochs", 5, *SMALL, "--set", "train.lr=1e30"]
    done = ended([*LAUNCH, *words, "--set", "loss.similarity=dot"], tmp_path)
    assert done.returncode == 2
    assert len(lines(done.stderr)) == 1 and "diverged" in lines(done.stderr)[0], done.stderr


def member(parent: int, rank: int, within: float = 60) -> int:
    """The process id of one of several that `parent` has started."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            if f"RANK={rank}".encode() in variables:
                return int(child)
        time.sleep(0.05)
    raise AssertionError("no such process")


LONG = ["--epochs", 100, "--set", "train.patience=100", "--set", "train.lr=1e-3"]


def killed(launch: list[str], words: list[object], cwd: Path) -> tuple[int, str]:
    """Exit code and stderr of a command whose process 1 is killed once there is a checkpoint."""
    more = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "COLUMNS": "200"}
    running = subprocess.Popen(
        [*launch, *map(str, words)], cwd=cwd, env=os.environ | more, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    end = time.monotonic() + 60
    while not (cwd / "run" / "checkpoint.safetensors").exists():
        assert time.monotonic() < end and running.poll() is None
        time.sleep(0.01)
    os.kill(member(running.pid, 1), signal.SIGKILL)
    _, told = running.communicate(timeout=240)
    return running.returncode, told


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
def test_a_lost_process_ends_all_and_resume_goes_on(command, shop, tmp_path):
    """Killed without warning; the same command with --resume gives the run of an unbroken training."""
    words = ["train", "shop.csv", "--model", "mf", *LONG, *SMALL]
    code, told = killed(LAUNCH, [*words, "--out", "run"], tmp_path)
    assert code != 0 and not (tmp_path / "run" / "metrics.json").exists()
    assert len(lines(told)) <= 1, told
    done = ended([*LAUNCH, *words, "--out", "run", "--resume"], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "going on after epoch" in done.stderr
    done = ended([*LAUNCH, *words, "--out", "whole"], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    np.testing.assert_array_equal(one["model.table"], two["model.table"])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
def test_with_restarts_a_lost_process_is_started_again(shop, tmp_path):
    words = ["train", "shop.csv", "--model", "mf", *LONG, *SMALL]
    code, told = killed([*LAUNCH, "--restarts", "1"], [*words, "--out", "run"], tmp_path)
    assert code == 0, told
    assert "going on after epoch" in told
    done = ended([*LAUNCH, *words, "--out", "whole"], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


@pytest.mark.slow
def test_saved_by_two_goes_on_in_one(command, shop, tmp_path):
    """Tables are replicated, so the checkpoint of process 0 is whole, for any number of processes."""
    words = ["train", "shop.csv", "--model", "mf", *LONG, *SMALL]
    killed(LAUNCH, [*words, "--out", "run"], tmp_path)
    code, _, err = command(*words, "--out", "run", "--resume")
    assert code == 0 and "going on after epoch" in err, err
    code, _, err = command(*words, "--out", "alone")
    assert code == 0, err
    one, two = (metrics(tmp_path / name) for name in ("run", "alone"))
    assert one["epochs"] == two["epochs"]
    for part in ("test", "valid"):
        assert one[part] == pytest.approx(two[part], abs=0.05)
