"""What every benchmark shares: settings, interleaved timing, child processes, results as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
import scipy.sparse as sp
import torch

import ssmrec
from ssmrec.data import DataConfig, Interactions, SplitConfig, prepare

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "numpy", "numba", "scipy", "polars", "pyarrow", "implicit", "threadpoolctl")


@dataclass(frozen=True)
class Settings:
    """Attributes:
    small: the quick setting: same code, small data, few repeats.
    results: folder of the JSON files.
    venvs: folder of the virtual environments of other libraries.
    seed: of data, initial weights and batches.
    """

    small: bool
    results: Path
    venvs: Path
    seed: int = 0


def published(name: str) -> tuple[Interactions, Interactions]:
    """Train (whole, nothing carved for validation) and test of a named set."""
    split = prepare(DataConfig(source=name, split=SplitConfig(valid=0)), seed=0)
    assert split.test is not None
    return split.train, split.test


def csr(pairs: Interactions) -> sp.csr_matrix:
    """Ones at the pairs, float32 (n_users, n_items)."""
    ones = np.ones(len(pairs), dtype=np.float32)
    shape = (pairs.n_users, pairs.n_items)
    return sp.csr_matrix((ones, pairs.indices, pairs.indptr), shape=shape)


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """What `call` returns, and its seconds."""
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def interleaved(
    sides: Mapping[str, Callable[[int], Any]], repeats: int, warm: int = 2
) -> dict[str, list[float]]:
    """Seconds of each side, repeat by repeat: A B A B ..., so that a busy machine hits all alike.

    Args:
        sides: called with the number of the repeat.
        repeats: timed calls of each.
        warm: calls before, not timed (compilation, caches).
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(warm + repeats):
        for name, call in sides.items():
            start = time.perf_counter()
            call(number)
            if number >= warm:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def summary(seconds: list[float]) -> dict[str, Any]:
    """Median, quartiles and number of timed repeats."""
    low, middle, high = np.percentile(seconds, [25, 50, 75])
    return {"median": middle, "quartiles": [low, high], "repeats": len(seconds)}


def compared(seconds: Mapping[str, list[float]], ours: str = "ours") -> dict[str, Any]:
    """Summaries, and how often faster ours is than each other side (ratio of medians)."""
    sides = {name: summary(values) for name, values in seconds.items()}
    base = sides[ours]["median"]
    return {
        "seconds": sides,
        "times_faster": {k: side["median"] / base for k, side in sides.items() if k != ours},
    }


def machine() -> dict[str, Any]:
    """Facts of this machine, as far as they matter to speed."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key.startswith(("OMP_", "MKL_", "OPENBLAS_", "NUMBA_", "GOMP_"))
    }
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "load_before": round(os.getloadavg()[0], 2),
        "torch_threads": torch.get_num_threads(),
        "numba_threads": numba.get_num_threads(),
        "environment": environment,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def versions() -> dict[str, str]:
    """Versions of Python, ssmrec and what the measurements depend on; absent packages left out."""
    found = {"python": platform.python_version(), "ssmrec": ssmrec.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def record(name: str, settings: Settings) -> Path:
    """Run one benchmark and write `NAME.json`: the result with all that is needed to repeat it."""
    module, *options = name.split("-")
    run: Callable[..., dict[str, Any]] = import_module(f"benchmarks.{module}").run
    facts = {
        "name": name,
        "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
        "small": settings.small,
        "seed": settings.seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
    }
    start = time.perf_counter()
    result = run(settings, *options)
    facts |= {"seconds": time.perf_counter() - start, "result": result}
    settings.results.mkdir(parents=True, exist_ok=True)
    path = settings.results / f"{name}.json"
    path.write_text(json.dumps(_rounded(facts), indent=1, allow_nan=False) + "\n")
    return path


def _rounded(value: Any) -> Any:
    """Plain numbers of six digits: more would only be noise."""
    if isinstance(value, Mapping):
        return {str(key): _rounded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(entry) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value.item() if isinstance(value, np.generic) else value


def child(
    module: str,
    arguments: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    processes: int = 1,
) -> Iterator[dict[str, Any]]:
    """Run `serve` of a module in its own process; yields what it reports, then how it ended if badly.

    Several `processes` are started by torchrun.
    """
    several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    start = [*several, module] if processes > 1 else [module]
    command = [sys.executable, "-m", *start, json.dumps(dict(arguments))]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            yield json.loads(line)
    if process.wait() != 0:
        why = "killed for want of memory" if process.returncode == -9 else "see its error above"
        yield {"failed": f"ended with code {process.returncode}: {why}"}


def serve(work: Callable[..., Iterator[Mapping[str, Any]]]) -> None:
    """The other end of `child`: print each report of `work(**arguments)` as a line of JSON."""
    for report in work(**json.loads(sys.argv[1])):
        print(json.dumps(_rounded(report)), flush=True)


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Resident memory of this process, in GiB: fills `before`, `peak` and `extra` (peak - before).

    Linux only: the kernel's own high-water mark is reset first, so nothing is missed.
    """
    Path("/proc/self/clear_refs").write_text("5")
    found = {"before": resident("VmRSS")}
    try:
        yield found
    finally:
        found["peak"] = resident("VmHWM")
        found["extra"] = found["peak"] - found["before"]


def resident(name: str) -> float:
    """Memory of this process in GiB, by its name in /proc/self/status; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name))) / 2**20
