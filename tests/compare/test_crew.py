"""Several trainings at a time, each in a process of its own."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing.context import SpawnProcess

import pytest

from ssmrec.compare import Store, expand, make_plan, run_of, run_plan
from ssmrec.errors import RunError

from .test_runner import Log, tables


def run(values, out, at_a_time, log=None, start=None):
    plan = make_plan(values)
    methods = expand(plan)
    log = log or Log()
    failures = run_plan(plan, methods, out, log, "", at_a_time, start)
    return plan, methods, failures, log


def crew_now():
    """The processes of comparisons; other tests have some of their own."""
    return [p for p in multiprocessing.active_children() if isinstance(p, SpawnProcess)]


class Events(Log):
    """What began and what ended, in order."""

    def __init__(self):
        super().__init__()
        self.events = []

    def begin(self, job, done, total, left):
        super().begin(job, done, total, left)
        self.events.append(f"begin {job.title}")

    def end(self, job, outcome):
        super().end(job, outcome)
        self.events.append(f"end {job.title}")


@pytest.fixture
def tuned(small):
    """With trials, and one method that is another by its label only."""
    small["base"]["train"].pop("threads")
    small["losses"].append({**small["losses"][1], "label": "again"})
    return small | {"models": "mf", "tune": {"train.lr": [0.02, 0.05]}}


def test_several_at_a_time_end_as_one_at_a_time(tuned, tmp_path):
    """Trials come before the runs that wait for them, and two of the same settings are one training."""
    one = run(tuned, tmp_path / "one", 1)
    plan, methods, failures, log = run(tuned, tmp_path / "three", 3, Events())
    assert failures == [] and tables(*one[:2], tmp_path / "one") == tables(
        plan, methods, tmp_path / "three"
    )
    names = [
        {path.name for path in (tmp_path / out / "results").iterdir()} for out in ("one", "three")
    ]
    assert names[0] == names[1] and len(log.titles) == len(names[1])
    assert sorted(log.titles) == sorted(one[3].titles) == sorted(log.ended)
    for method in methods[:2]:
        places = [log.events.index(f"end shop: {method.label}, trial {n}, seed 0") for n in (1, 2)]
        assert max(places) < log.events.index(f"begin shop: {method.label}, seed 0")
    store = Store(tmp_path / "three")
    record = store.load(run_of(methods[0], 1, {"train.lr": 0.02}), plan.metrics)
    other = store.load(run_of(methods[0], 1, {"train.lr": 0.05}), plan.metrics)
    assert (record or other).record["device"].endswith(", one of 3 trainings at a time")


def test_what_a_process_tells_and_what_fails_in_it_is_told_here(small, tmp_path, caplog):
    small |= {"models": "mf", "losses": {"name": "ssm", "set": {"negatives": {"name": "in_batch"}}}}
    small["data"].insert(0, str(tmp_path / "nowhere.csv"))
    logger = logging.getLogger()
    logger.addHandler(caplog.handler)
    try:
        *_, failures, log = run(small, tmp_path / "out", 2)
    finally:
        logger.removeHandler(caplog.handler)
    assert sorted(f.job.title for f in failures) == [f"nowhere: mf + ssm, seed {n}" for n in (0, 1)]
    assert all("nowhere.csv" in failure.reason for failure in failures) and log.reasons
    assert log.ended and all(title.startswith("shop") for title in log.ended)


class Stop(Log):
    """Ctrl-C when the first run has ended."""

    def end(self, job, outcome):
        super().end(job, outcome)
        raise KeyboardInterrupt


def test_ctrl_c_stops_all_of_them_and_they_go_on(small, tmp_path):
    """The longer ones leave checkpoints; a second command ends as an unbroken one."""
    small["base"]["train"]["epochs"] = 4
    small |= {"models": ["mf"]}
    whole = run(small, tmp_path / "whole", 1)
    small["losses"][1]["set"] = {"train.epochs": 4}
    with pytest.raises(KeyboardInterrupt):
        run(small, tmp_path / "broken", 2, Stop())
    assert crew_now() == []
    kept = len(list((tmp_path / "broken" / "results").iterdir()))
    assert 1 <= kept < 4
    plan, methods, failures, log = run(small, tmp_path / "broken", 2)
    assert failures == [] and len(log.titles) == 4 - kept
    assert tables(plan, methods, tmp_path / "broken") == tables(*whole[:2], tmp_path / "whole")


def test_a_real_ctrl_c_is_heard_while_all_of_them_train(small, shop, tmp_path):
    """By the first process alone, as `kill -INT` sends it, and by all, as the keyboard does."""
    words = [sys.executable, "-m", "ssmrec", "compare", "--data", str(shop), "--models", "mf"]
    words += ["--losses", "bpr,ssm", "--at-a-time", "2", "--set", "train.epochs=100000"]
    words += ["--set", "train.patience=99999", "--out", "out"]
    for kill in (os.kill, os.killpg):
        child = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 start_new_session=True)  # fmt: skip
        try:
            marks = {path: path.stat().st_mtime for path in checkpoints(tmp_path)}
            wait_for(
                lambda m=marks: (
                    sum(p.stat().st_mtime > m.get(p, 0) for p in checkpoints(tmp_path)) >= 2
                )
            )
            kill(child.pid, signal.SIGINT)
            _, told = child.communicate(timeout=60)
        finally:
            child.kill()
        assert child.returncode == 130 and "Traceback" not in told
        assert "interrupted: 0 of 2 runs are finished and kept in out; the same command" in told


def checkpoints(folder):
    return list(folder.glob("out/runs/*/checkpoint.safetensors"))


class Kill(Log):
    """SIGKILL to a process once a run has ended."""

    def end(self, job, outcome):
        super().end(job, outcome)
        os.kill(crew_now()[0].pid, signal.SIGKILL)


def test_a_process_that_is_killed_is_one_line_and_the_command_goes_on(small, tmp_path):
    with pytest.raises(RunError, match="killed.*kept in .*same command goes on"):
        run(small, tmp_path / "out", 2, Kill())
    *_, failures, log = run(small, tmp_path / "out", 2)
    assert failures == [] and 1 <= len(log.titles) < 8


def refuse(text):
    raise RuntimeError(text)


def test_processes_that_cannot_start_are_one_line(small, tmp_path):
    with pytest.raises(RuntimeError, match="in a process of the comparison(.|\n)*no licence"):
        run(small, tmp_path / "out", 2, start=partial(refuse, "no licence"))
    assert crew_now() == []


PROGRAM = """
import sys
from pathlib import Path
from ssmrec.compare import Store, aggregate, expand, make_plan, run_plan
from ssmrec.losses import LOSSES
from ssmrec.losses.pairwise import BPR

class Own(BPR):
    pass

if sys.argv[2] == "everywhere":
    LOSSES["own"] = Own

def main():
    LOSSES["own"] = Own
    plan = make_plan({"data": sys.argv[1], "models": "mf", "losses": ["own", "bpr"], "seeds": 1,
                      "base": {"train": {"epochs": 2}}, "tune": {"train.lr": [0.01, 0.02]}})
    methods = expand(plan)
    print([f.reason for f in run_plan(plan, methods, Path("out"), at_a_time=2)])
    print([row.seeds for row in aggregate(plan, methods, Store(Path("out")))[0].rows])

GUARD main()
"""


def test_a_program_with_a_loss_of_its_own(shop, tmp_path):
    """The file has another name in the processes, and its results are found all the same."""
    guarded = PROGRAM.replace("GUARD", 'if __name__ == "__main__":')
    found = program(tmp_path, guarded, shop, "everywhere")
    assert found.stdout == "[]\n[1, 1]\n", found.stderr
    assert len(list((tmp_path / "out" / "results").iterdir())) == 6
    shutil.rmtree(tmp_path / "out")
    found = program(tmp_path, guarded, shop, "here")
    assert "ConfigError: shop: mf + own, trial" in found.stderr
    assert "loss.name=own is not known in the process that trains it" in found.stderr
    found = program(tmp_path, PROGRAM.replace("GUARD ", ""), shop, "everywhere")
    assert "could not start" in found.stderr and 'if __name__ == "__main__":' in found.stderr


def program(folder, text, *words):
    (folder / "own_loss.py").write_text(text)
    return subprocess.run([sys.executable, "own_loss.py", *map(str, words)], cwd=folder,
                          capture_output=True, text=True, timeout=300)  # fmt: skip


def test_memory_that_runs_out_in_one_run_stops_no_other(small, tmp_path):
    """A batch of 2^40 numbers; torch raises a RuntimeError on a CPU."""
    (tmp_path / "greedy.py").write_text(
        "import torch\nfrom ssmrec.losses import LOSSES\nfrom ssmrec.losses.pairwise import BPR\n"
        "class Greedy(BPR):\n    def forward(self, *args, **more):\n        torch.empty(2**44)\n"
        "LOSSES['greedy'] = Greedy\n"
    )
    words = ["--models", "mf", "--losses", "greedy,bpr", "--out", "out", "--set", "train.epochs=1"]
    for several in ([], ["--at-a-time", "2"]):
        source = str(small["data"][0]["source"])
        found = subprocess.run(
            [sys.executable, "-m", "ssmrec", "--plugin", "greedy.py", "compare", "--data", source,
             *words, *several], cwd=tmp_path, capture_output=True, text=True)  # fmt: skip
        assert found.returncode == 2 and "mf + bpr" in found.stdout
        assert "error: shop: mf + greedy, seed 0: " in found.stderr and "memory" in found.stderr


@pytest.mark.slow
def test_parts_of_ones_own_and_the_end_of_the_first_process(small, shop, tmp_path):
    """`--plugin` holds in all of them; where the first is killed, none lives on."""
    (tmp_path / "own.py").write_text(
        "from ssmrec.losses import LOSSES\nfrom ssmrec.losses.pairwise import BPR\n"
        "class Own(BPR):\n    pass\nLOSSES['own'] = Own\n"
    )
    words = [sys.executable, "-m", "ssmrec", "--plugin", "own.py", "compare", "--data", str(shop)]
    words += ["--models", "mf", "--losses", "own,ssm", "--at-a-time", "2", "--out", "out"]
    done = subprocess.run(
        [*words, "--set", "train.epochs=2"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and "mf + own" in done.stdout and "Traceback" not in done.stderr
    assert "waiting" not in done.stderr
    words[-1] = "long"
    child = subprocess.Popen([*words, "--set", "train.epochs=100000", "--set", "train.patience=99999"],
                             cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        wait_for(lambda: len(list(tmp_path.glob("long/runs/*/checkpoint*"))) >= 2)
        workers = children(child.pid)
        assert len(workers) >= 2
    finally:
        child.kill()
        child.wait()
    wait_for(lambda: not any(map(alive, workers)))


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
