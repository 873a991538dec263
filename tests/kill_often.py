"""`kill -9` at random moments of training, checkpoints and writing: `python tests/kill_often.py 100 [seed]`.

A training in a process of its own is killed at a random moment, its folder is looked through, and it
goes on with `--resume`, to be killed again, until it comes to its end. Then metrics and vectors must
be those of a training that was never disturbed, to the last bit. One thread, so that sums agree.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(name, "1")

import polars as pl  # noqa: E402
import yaml  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import ssmrec.training.checkpoint  # noqa: E402
from ssmrec.cli import main  # noqa: E402
from ssmrec.errors import RunError  # noqa: E402
from ssmrec.storage.files import PART  # noqa: E402
from ssmrec.training import Checkpoint, load_run  # noqa: E402

EPOCHS = 25
LEFT = ("nothing", "checkpoint", "run")
EARLY = 0.1
"""Share of the kills that count from the start of the process, not from its first epoch."""
TIMED = ("seconds", "peak_memory_bytes")


def rows(path: Path) -> None:
    """A shop of 60 users with 12 of 40 items each, without polars: see `forked`."""
    drawn = random.Random(0)
    lines = [f"{user},{item}" for user in range(60) for item in drawn.sample(range(40), 12)]
    path.write_text("\n".join(["user,item", *lines]) + "\n")


def forked(work: Callable[[], int], errors: Path) -> int:
    """The process id of a child that does `work` and ends with its value.

    Threads do not live on in a child: this process must start none, so all that polars, torch and
    numba do is done in children.
    """
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
        code = work()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def within(child: int, seconds: float) -> int:
    """The exit code of a child, minus the signal when one killed it; it is killed after `seconds`."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ended(child: int, seconds: float) -> int:
    """The exit code of a child that must come to its end."""
    code = within(child, seconds)
    if code == -signal.SIGKILL:
        raise TimeoutError(f"no end within {seconds:.0f} s")
    return code


def train(place: Path, out: str, resume: bool, tell: int) -> int:
    """The command line's training, with a checkpoint after every epoch; `tell` hears of the first."""
    os.chdir(place)
    ssmrec.training.checkpoint._EVERY = 0.0
    plain = Checkpoint.after_epoch

    def after_epoch(self: Checkpoint, phase: str, trainer: Any) -> None:
        plain(self, phase, trainer)
        os.write(tell, b".")

    Checkpoint.after_epoch = after_epoch  # type: ignore[method-assign]
    sys.argv = [
        "ssmrec",
        "train",
        "shop.csv",
        "--model",
        "mf",
        "--out",
        out,
        "--epochs",
        str(EPOCHS),
    ]
    sys.argv += ["--set", "model.dim=64", "--set", "train.batch_size=64", "--protocol", "refit"]
    sys.argv += ["--set", "train.threads=1", "--set", "train.lr=0.01", *(["--resume"] * resume)]
    main()
    return 0


def look_through(folder: Path) -> int:
    """Index in `LEFT` of what a killed training left; raises if a file is half there."""
    if not folder.exists():
        return 0
    for path in folder.iterdir():
        if path.name.endswith(PART):  # never read as the file itself
            continue
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                assert [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
        elif path.suffix == ".parquet":
            assert len(pl.read_parquet(path))
        elif path.suffix == ".yaml":
            assert yaml.safe_load(path.read_text())["format"] == 1
        elif path.suffix == ".json":
            assert json.loads(path.read_text())["protocol"]
        else:
            assert path.name == "history.jsonl", path
    try:
        load_run(folder)
    except RunError as error:
        assert "not a finished run" in str(error), error
        return int((folder / "checkpoint.safetensors").exists())
    return 2


def outcome(folder: Path) -> tuple[dict, dict]:
    """Metrics without times, and tensors."""
    metrics = json.loads((folder / "metrics.json").read_text())
    return {k: v for k, v in metrics.items() if k not in TIMED}, load_file(
        folder / "model.safetensors"
    )


def compare(found: Path, wanted: Path, tidy: bool) -> int:
    """0 when two runs are equal to the last bit and, where `tidy`, killed writers left nothing."""
    names = [sorted(path.name for path in folder.iterdir()) for folder in (found, wanted)]
    assert not tidy or names[0] == names[1], names
    (metrics, tensors), (their_metrics, their_tensors) = outcome(found), outcome(wanted)
    assert metrics == their_metrics, (metrics, their_metrics)
    assert tensors.keys() == their_tensors.keys()
    for name, tensor in tensors.items():
        assert tensor.equal(their_tensors[name]), name
    return 0


def kill_often(count: int, seed: int, place: Path) -> dict[str, int]:
    """Kill `count` times; how often the killed training had left what, and how many came to an end."""
    rows(place / "shop.csv")
    errors = place / "errors.txt"

    def do(work: Callable[[], int], allowed: tuple[int, ...] = (0,)) -> int:
        code = ended(forked(work, errors), 120)
        assert code in allowed, f"exit code {code}: {errors.read_text()[-2000:]}"
        return code

    def trained(out: str, resume: bool, kill: Callable[[], float] | None) -> tuple[int, float]:
        """Exit code, and seconds from the first epoch to the end, 0 if unknown; `kill` draws when to kill."""
        hear, tell = os.pipe()
        child = forked(partial(train, place, out, resume, tell), errors)
        os.close(tell)
        early = kill is not None and drawn.random() < EARLY
        if not early:
            os.read(hear, 1)  # nothing when the child ends before
        begun = time.monotonic()
        code = ended(child, 120) if kill is None else within(child, kill())
        os.close(hear)
        assert code in (0, -signal.SIGKILL), f"exit code {code}: {errors.read_text()[-2000:]}"
        return code, 0.0 if early or resume else time.monotonic() - begun

    drawn = random.Random(seed)
    _, whole = trained("unbroken", False, None)
    left = dict.fromkeys([*LEFT, "ends"], 0)
    killed = 0
    while killed < count or not left["ends"]:
        folder, resume, code = place / f"run{left['ends']}", False, -signal.SIGKILL
        while code == -signal.SIGKILL:
            kill = partial(drawn.uniform, 0, whole) if killed < count else None
            code, took = trained(folder.name, resume, kill)
            if code == 0:  # how long a whole one takes changes with what else the machine does
                whole = took or whole
            state = LEFT[do(partial(look_through, folder), (0, 1, 2))]
            if code == -signal.SIGKILL:
                killed, resume = killed + 1, True
                left[state] += 1
                if state == "run":
                    break
        do(partial(compare, folder, place / "unbroken", code == 0))
        left["ends"] += 1
    return left


if __name__ == "__main__":
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as place:
        left = kill_often(count, seed, Path(place))
    print(f"killed {count} times, seed {seed}; left {left['nothing']} times nothing, {left['checkpoint']} "
          f"times a checkpoint, {left['run']} times a finished run; {left['ends']} trainings came to "
          "their end, all as the unbroken one")  # fmt: skip
