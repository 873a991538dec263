"""RecBole in its own environment: made here, fed from here, and its vectors read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ssmrec.data import Interactions

SCRIPT = Path(__file__).parent / "recbole_script.py"
PINS = (
    "numpy<2", "pandas<2.2", "scipy<1.13", "setuptools<81", "torch==2.13.0", "scikit-learn",
    "colorlog==4.7.2", "colorama==0.4.4", "pyyaml", "tqdm", "tabulate", "texttable", "psutil",
    "tensorboard", "thop", "plotly", "kmeans-pytorch",
)  # fmt: skip
RECBOLE = "recbole==1.2.0"


def venv(folder: Path) -> Path:
    """The Python of RecBole's environment, made on first use.

    Raises:
        subprocess.CalledProcessError: pip could not install it (no network).
    """
    python = folder / "recbole" / "bin" / "python"
    if not ready(folder):
        subprocess.run([sys.executable, "-m", "venv", folder / "recbole"], check=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *PINS], check=True)
        subprocess.run([*pip, "--no-deps", RECBOLE], check=True)
        (folder / "recbole" / "ready").write_text("\n".join([RECBOLE, *PINS]) + "\n")
    return python


def write_data(folder: Path, train: Interactions, test: Interactions) -> None:
    """The files RecBole reads, with our indices as its tokens. Valid is test again: it is not used."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for part, pairs in (("train", train), ("valid", test), ("test", test)):
        frame = pl.DataFrame({"user_id:token": pairs.rows, "item_id:token": pairs.indices})
        frame.write_csv(folder / "data" / f"data.{part}.inter", separator="\t")


def read_vectors(path: str, users: int, items: int) -> tuple[Any, Any]:
    """Tables (users, d) and (items, d) in our order from a file that `main` wrote."""
    saved = np.load(path)
    tables = []
    for side, count in (("users", users), ("items", items)):
        table = np.zeros((count, saved[side].shape[1]), dtype=np.float32)
        table[saved[f"{side}_ids"]] = saved[side]
        tables.append(table)
    return tables[0], tables[1]


def reports(python: Path, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Run `recbole_script.py` in RecBole's environment; yields its lines.

    Raises:
        RuntimeError: it failed; the end of its log is in the message.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    command = [str(python), "-P", str(SCRIPT), json.dumps(arguments)]
    log = Path(arguments["folder"]) / "log.txt"
    with log.open("w") as errors, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
        cwd=arguments["folder"],
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith('{"'):
                yield json.loads(line)
    if process.returncode != 0:
        raise RuntimeError(f"RecBole failed: {log.read_text()[-2000:]}")


def ready(folder: Path) -> bool:
    """Whether the environment has been made."""
    return (folder / "recbole" / "ready").exists()
