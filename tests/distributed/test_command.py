"""The command in several processes: the same run folder, one line for an error, and no hang."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file

import faulty
from ssmrec.distributed.place import LOST
from ssmrec.training import load_run
from together import LIMIT, Together, lines

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
LAUNCH = [sys.executable, "-m", "ssmrec", "launch", "-n", "2"]
SMALL = ["--set", "model.dim=8", "--set", "train.batch_size=64", "--set", "train.threads=1"]
LONG = ["--epochs", 40, "--set", "train.patience=40", "--set", "train.lr=1e-3"]
TABLES = [
    "replicated",
    pytest.param(
        "sharded",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("torchrec") is None,
            reason="torchrec is not installed: make distributed-cpu",
        ),
    ),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """40 users with 10 of 30 items each, in the order of time."""
    random = np.random.default_rng(0)
    items = np.concatenate([random.choice(30, 10, replace=False) for _ in range(40)])
    rows = {"user": np.repeat(np.arange(40), 10), "item": items, "ts": np.arange(400)}
    file = tmp_path_factory.mktemp("data") / "shop.csv"
    pl.DataFrame(rows).write_csv(file)
    return file


@pytest.fixture
def shop(data, tmp_path) -> Path:
    return Path(shutil.copy(data, tmp_path))


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    """`unbroken(tables)`: the folder of the long training by two processes that nothing happened to."""
    found = {}

    def made(tables: str) -> Path:
        if tables not in found:
            folder = tmp_path_factory.mktemp(tables)
            shutil.copy(data, folder)
            running = Together([*long(tables), "--out", "run"], folder)
            assert running.wait() == [0, 0], running.said(0)
            found[tables] = folder / "run"
        return found[tables]

    return made


def long(tables: str) -> list[object]:
    """A training that takes seconds, so that there is time to kill a process of it."""
    asked = ["--set", f"distributed.tables={tables}"]
    return ["train", "shop.csv", "--model", "mf", *LONG, *SMALL, *asked]


def started(words: list[object], cwd: Path) -> subprocess.Popen[str]:
    free = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    (temporary := cwd / "temporary").mkdir(exist_ok=True)
    more = {
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "COLUMNS": "200",
        "TMPDIR": str(temporary),
    }
    return subprocess.Popen(
        list(map(str, words)), cwd=cwd, env=free | more, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def assert_nothing_left(cwd: Path) -> None:
    """Of logs and of pairs in the folder of temporary files; torch leaves the cache of its compiler."""
    left = {path.name for path in (cwd / "temporary").iterdir()}
    assert not [name for name in left if not name.startswith("torchinductor_")]


def metrics(folder: Path) -> dict:
    told = json.loads((folder / "metrics.json").read_text())
    return {name: told[name] for name in ("test", "valid", "counts", "best_epoch", "epochs")}


def same_run(one: Path, other: Path) -> None:
    """The same metrics, and tables to the last bit."""
    assert metrics(one) == metrics(other)
    tables = [load_file(folder / "model.safetensors")["model.table"] for folder in (one, other)]
    np.testing.assert_array_equal(*tables)


@pytest.mark.parametrize("tables", TABLES)
def test_torchrun_writes_the_run_that_one_process_writes(command, shop, tmp_path, tables):
    model = {"replicated": "lightgcn", "sharded": "mf"}[tables]
    words = ["train", shop, "--model", model, "--epochs", 3, *SMALL]
    words += ["--set", f"distributed.tables={tables}"]
    code, _, err = command(*words, "--out", "alone")
    assert code == 0, err
    running = started([*TORCHRUN, "-m", "ssmrec", *words, "--out", "together"], tmp_path)
    out, err = running.communicate(timeout=LIMIT)
    assert running.returncode == 0, err[-3000:]
    assert out.count("run folder: together") == 1  # one process tells
    assert metrics(tmp_path / "together") == metrics(tmp_path / "alone")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "together"))
    assert one.keys() == two.keys()
    np.testing.assert_allclose(two["model.table"], one["model.table"], rtol=1e-5, atol=1e-5)
    assert sorted(p.name for p in (tmp_path / "together").iterdir()) == sorted(
        p.name for p in (tmp_path / "alone").iterdir()
    )
    load_run(tmp_path / "together")


def test_what_all_processes_meet_is_one_line_of_process_0(shop, tmp_path):
    running = started([*LAUNCH, "train", shop, "--loss", "directau"], tmp_path)
    _, err = running.communicate(timeout=LIMIT)
    assert running.returncode == 2
    assert len(lines(err)) == 1, err
    assert lines(err)[0].startswith("error: loss=directau looks at all rows of a batch at once")
    assert not (tmp_path / "runs").exists()
    assert_nothing_left(tmp_path)


OWN = """
import own_margin
from ssmrec import LOSSES
from ssmrec.losses import SampledSoftmax


class Own(SampledSoftmax):
    row_by_row = True


LOSSES["own"] = Own
"""


def test_processes_run_a_plugin_of_the_folder_and_nothing_else_of_it(shop, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "own_margin.py").write_text("")
    (tmp_path / "yaml.py").write_text("open('run_by_mistake', 'w')\nraise SystemExit(3)")
    ours = [sys.executable, "-P", "-m", "ssmrec", "--plugin", "own"]  # as the script `ssmrec` does
    words = ["launch", "-n", 2, "train", shop, "--model", "mf", "--loss", "own", "--epochs", 1]
    running = started([*ours, *words, *SMALL, "--out", "run"], tmp_path)
    _, err = running.communicate(timeout=LIMIT)
    assert running.returncode == 0, err[-3000:]
    assert (tmp_path / "run/metrics.json").exists()
    assert not (tmp_path / "run_by_mistake").exists()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (faulty.bad_row, "error: process 1: clicks.csv: row 7 cannot be read"),
        (faulty.other_data, "error: process 1 has another data than process 0"),
        (faulty.bad_step, "error: process 1: a fault in a step"),
    ],
)
def test_a_failure_of_one_process_ends_all(shop, tmp_path, fault, said):
    words = ["train", shop, "--model", "mf", "--epochs", 3, *SMALL]
    running = Together(words, tmp_path, before=fault)
    assert set(running.wait()) in ({2}, {2, LOST})
    (line,) = running.errors()
    assert line.startswith(said)


def test_a_training_that_diverges_ends_all(shop, tmp_path):
    words = ["train", shop, "--model", "mf", "--epochs", 5, *SMALL, "--set", "train.lr=1e30"]
    running = Together([*words, "--set", "loss.similarity=dot"], tmp_path)
    assert set(running.wait()) in ({2}, {2, LOST})
    (line,) = running.errors()
    assert "diverged" in line


def wait_for(path: Path) -> None:
    end = time.monotonic() + LIMIT
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("tables", TABLES)
def test_a_lost_process_ends_all_and_resume_goes_on(command, shop, tmp_path, unbroken, tables):
    """Killed without warning: one line, and --resume gives the run of an unbroken training.

    One process goes on as well; its sums have another order.
    """
    words = [*long(tables), "--out", "run"]
    running = Together(words, tmp_path)
    wait_for(tmp_path / "run" / "checkpoint.safetensors")
    running.members[1].kill()
    assert running.wait() == [LOST, -signal.SIGKILL]
    (line,) = running.errors()
    assert line.startswith("error: another process of this training has ended")
    assert not (tmp_path / "run" / "metrics.json").exists()
    shutil.copytree(tmp_path / "run", tmp_path / "alone")

    running = Together([*words, "--resume"], tmp_path)
    assert running.wait() == [0, 0], running.said(0)
    assert "going on after epoch" in running.said(0)
    same_run(tmp_path / "run", unbroken(tables))

    code, _, err = command(*words[:-1], "alone", "--resume")
    assert code == 0 and "going on after epoch" in err, err
    one, two = metrics(tmp_path / "alone"), metrics(unbroken(tables))
    assert one["epochs"] == two["epochs"]
    for part in ("test", "valid"):
        assert one[part] == pytest.approx(two[part], abs=0.05)


def member(parent: int, rank: int) -> int:
    """The process id of one of several that `parent` has started."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in variables:
            return int(child)
    raise AssertionError("no such process")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("tables", TABLES)
def test_with_restarts_a_lost_process_is_started_again(shop, tmp_path, unbroken, tables):
    words = [*LAUNCH, "--restarts", 1, *long(tables), "--out", "run"]
    running = started(words, tmp_path)
    wait_for(tmp_path / "run" / "checkpoint.safetensors")
    os.kill(member(running.pid, 1), signal.SIGKILL)
    _, err = running.communicate(timeout=2 * LIMIT)
    assert running.returncode == 0, err[-3000:]
    assert "process 1 was killed (SIGKILL): all are started again" in err
    assert "going on after epoch" in err
    assert_nothing_left(tmp_path)
    same_run(tmp_path / "run", unbroken(tables))


@pytest.mark.slow
def test_restarts_do_not_overwrite_a_finished_run(shop, tmp_path, unbroken):
    shutil.copytree(unbroken("replicated"), tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    running = started([*LAUNCH, "--restarts", 1, *long("replicated"), "--out", "run"], tmp_path)
    _, err = running.communicate(timeout=2 * LIMIT)
    assert running.returncode == 2 and err.count("run: holds a finished run") == 1
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_ctrl_c_ends_a_launch_in_one_line(shop, tmp_path):
    running = started([*LAUNCH, *long("replicated"), "--out", "run"], tmp_path)
    wait_for(tmp_path / "run" / "checkpoint.safetensors")
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=2 * LIMIT)
    assert running.returncode == 130 and "Traceback" not in err
    assert err.splitlines()[-1].startswith("stopped: the same command with --resume goes on")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
def test_a_killed_process_of_a_launch_is_told(shop, tmp_path):
    running = started([*LAUNCH, *long("replicated"), "--out", "run"], tmp_path)
    wait_for(tmp_path / "run" / "checkpoint.safetensors")
    os.kill(member(running.pid, 0), signal.SIGKILL)
    _, err = running.communicate(timeout=2 * LIMIT)
    assert running.returncode == 2 and "Traceback" not in err
    assert "--resume" in err.splitlines()[-1] and "error: " in err.splitlines()[-1]
