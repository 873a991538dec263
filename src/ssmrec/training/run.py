"""The run folder: everything about a training, written atomically, without pickle."""

from __future__ import annotations

import json
import platform
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import polars as pl
import torch
import yaml
from safetensors import SafetensorError

from ssmrec.config import build, merged, parse_yaml
from ssmrec.data import Interactions, Vocabulary
from ssmrec.errors import ConfigError, DataError, RunError, cut
from ssmrec.models import Backbone
from ssmrec.storage.facts import read_history, read_metrics
from ssmrec.storage.files import CHECKPOINT, assert_regular, replace_together, replaced, spare
from ssmrec.storage.stored import load_state, read_pairs
from ssmrec.storage.tensors import Stored, give, read_tensors, write_tensors
from ssmrec.training.ahead import without_start
from ssmrec.training.config import RankingConfig, RunConfig, make_model, resolve
from ssmrec.training.given import differing, weighs
from ssmrec.training.peers import current
from ssmrec.training.protocols import Trained

FORMAT = 1
"""Version of the folder's layout; a reader refuses a later one."""

METRICS, CONFIG, HISTORY = "metrics.json", "config.yaml", "history.jsonl"
MODEL, IDS = "model.safetensors", "ids.parquet"
FILES = (METRICS, CONFIG, HISTORY, IDS, MODEL)
"""What a finished run consists of."""

_OF_IDS = "ids_crc32"
"""What the model's file tells of the ids its rows belong to; older files do not."""

DERIVED = ("analysis.json", "analysis.html")
"""What is made from a run: gone as soon as another run is written in its place."""


def holds(folder: Path) -> str:
    """`a finished run`, `an unfinished training`, or nothing of the kind: an empty text."""
    if (folder / METRICS).exists():
        return "a finished run"
    return "an unfinished training" if (folder / CHECKPOINT).exists() else ""


def is_ours(folder: Path) -> bool:
    """Whether it holds a run, or what a kill left of one: `config.yaml` is the first file to be saved."""
    if (folder / CHECKPOINT).exists():
        return True
    with suppress(RunError), _reading(folder / CONFIG):
        return {"format", "data_fingerprint"} <= dict(parse_yaml(_text(folder / CONFIG))).keys()
    return False


def refuse_foreign(folder: Path, remedy: str, *more: Path) -> None:
    """Raise a RunError that names a file which a run would replace, in a folder that holds none.

    Args:
        remedy: what the user can do. more: further files that the run would replace.
    """
    if not holds(folder) and not is_ours(folder):
        spare([*(folder / name for name in (*FILES, *DERIVED)), *more], "a run", remedy)


def broken_off(folder: Path) -> bool:
    """Whether it holds a run that Ctrl-C ended."""
    with suppress(RunError), _reading(folder / METRICS):
        return read_metrics(folder / METRICS)["stopped"] == "interrupted"
    return False


def save_run(
    folder: Path, trained: Trained, fingerprint: str, more: Mapping[Path, Path] | None = None
) -> None:
    """Write `trained` to `folder`: all files or, when that fails, none; `metrics.json` last.

    Args:
        more: more files that belong to the run, each a copy of another.

    Raises:
        RunError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = _state(trained.model)
        parts = {"train": trained.train}
        if trained.seen is not trained.train:
            parts["seen"] = trained.seen
        for name, pairs in parts.items():
            tensors[f"{name}.indptr"] = torch.from_numpy(pairs.indptr)
            tensors[f"{name}.indices"] = torch.from_numpy(pairs.indices)
            if trained.model.timed and pairs.timestamps is not None:
                tensors[f"{name}.timestamps"] = torch.from_numpy(pairs.timestamps)
            if pairs.weights is not None and weighs(trained.config.model_dump()):
                tensors[f"{name}.weights"] = torch.from_numpy(pairs.weights)
        ids = _ids(trained.train)
        texts = {
            CONFIG: yaml.safe_dump(  # the first in its place: see `is_ours`
                _record(trained, fingerprint, folder), sort_keys=False, allow_unicode=True
            ),
            HISTORY: "".join(json.dumps(row) + "\n" for row in trained.history),
            METRICS: json.dumps(trained.metrics, indent=2) + "\n",
        }
        writers = {
            **{folder / name: _text_writer(text) for name, text in texts.items()},
            folder / MODEL: lambda path: write_tensors(path, tensors, {_OF_IDS: _checksum(ids)}),
            folder / IDS: ids.write_parquet,
            **{place: partial(copyfile, file) for place, file in (more or {}).items()},
        }
        replace_together(writers, last=folder / METRICS)
        for name in DERIVED:  # they tell of the run that was here before
            (folder / name).unlink(missing_ok=True)
    except (OSError, SafetensorError, pl.exceptions.PolarsError) as error:
        reason = getattr(error, "strerror", None) or _first(error)
        raise RunError(f"{folder}: the run cannot be written ({reason})") from None


def give_rows(model: Backbone) -> None:
    """Give what this process holds of a divided model to process 0, which is in `save_run`."""
    give(_state(model).values())


def _state(model: Backbone) -> dict[str, Stored]:
    return {f"model.{k}": current().stored(model, v) for k, v in model.state_dict().items()}


def _record(trained: Trained, fingerprint: str, folder: Path) -> dict[str, Any]:
    """What `config.yaml` holds: enough to repeat the run, and what was not a default in it."""
    start = trained.metrics.get("warm_start")
    kept = Path(trained.config.data.source).resolve().parent == folder.resolve()
    return {
        "format": FORMAT,
        "versions": _versions(),
        "threads": torch.get_num_threads(),
        "data_fingerprint": fingerprint,
        **({"data_kept": True} if kept else {}),
        **({"warm_start": start} if start else {}),
        "not_default": differing(trained.config),
        "settings": trained.config.model_dump(mode="json"),
    }


def _text_writer(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text, encoding="utf-8")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")  # whatever the system's own is


def load_run(folder: Path) -> tuple[Trained, str]:
    """Read a run folder back; the second value is the fingerprint of its data.

    Raises:
        RunError: not a finished run, damaged, or of a later format.
    """
    if not (folder / METRICS).exists():
        held = holds(folder)
        left = f"; it holds {held}: repeat its command with --resume" if held else ""
        raise RunError(f"{folder}: not a finished run (no {METRICS}){left}")
    with _reading(folder / CONFIG):
        record = dict(parse_yaml(_text(folder / CONFIG)))
        version, settings = int(record["format"]), _as_it_was(dict(record["settings"]))
        fingerprint = str(record["data_fingerprint"])
    if version > FORMAT:
        raise RunError(f"{folder}: has format {version}, this ssmrec reads up to {FORMAT}: upgrade")
    config = _with_data(_resolved(settings, folder), folder, bool(record.get("data_kept")))
    with _reading(folder / METRICS):
        metrics = read_metrics(folder / METRICS)
    with _reading(folder / HISTORY):
        history = read_history(folder / HISTORY)
    with _reading(folder / IDS):
        users, items = _vocabularies(ids := pl.read_parquet((folder / IDS).read_bytes()))
    with _reading(folder / MODEL):
        tensors, facts = read_tensors(folder / MODEL)
        if facts.get(_OF_IDS, found := _checksum(ids)) != found:
            raise ValueError(f"was saved with another {IDS} than the one beside it")
        train = read_pairs(tensors, "train", users, items)
        seen = read_pairs(tensors, "seen", users, items) if "seen.indptr" in tensors else train
        model = make_model(without_start(config), train, torch.Generator())
        state = {k.removeprefix("model."): v for k, v in tensors.items() if k[:6] == "model."}
        load_state(model, state)
    return Trained(config, model, train, seen, history, metrics), fingerprint


def _resolved(settings: dict[str, Any], folder: Path) -> RunConfig:
    try:
        with _reading(folder / CONFIG):
            config = resolve(settings)
            for part in config.model.get("parts", ()):
                build(RankingConfig, part["settings"]["ranking"], f"{part['name']}: ranking")
    except ConfigError as error:
        kind = RunError if str(error).startswith("unknown ") else ConfigError
        raise kind(f"{folder}: {error}") from None
    return config


def _as_it_was(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that older folders lack, as they were before there was a choice."""
    if settings["data"]["split"]["strategy"] in ("random", "time"):  # ties play no part
        return settings
    before = {"data": {"split": {"ties": "item"}}}
    return merged(before, settings)


def _with_data(config: RunConfig, folder: Path, kept: bool) -> RunConfig:
    """Rows that the run keeps are found wherever its folder is now.

    Args:
        kept: whether they were in the folder when it was written; older folders do not tell.
    """
    source = Path(config.data.source)
    here = folder / source.name
    if not here.is_file() or not (kept or not source.exists()):
        return config
    data = config.data.model_copy(update={"source": str(here)})
    return config.model_copy(update={"data": data})


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever fails while reading `path` becomes one line that names the file."""
    try:
        assert_regular(path)
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
            SafetensorError, yaml.YAMLError, pl.exceptions.PolarsError, DataError) as error:  # fmt: skip
        raise RunError(
            f"{path}: damaged or not of this run ({_first(error)}); restore it, or train again"
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a whole file or leave the old one."""
    with replaced(path) as part:
        part.write_text(text, encoding="utf-8")


def _first(error: Exception) -> str:
    kind, text = type(error).__name__, str(error).strip()
    return f"{kind}: {cut(text.splitlines()[0].rstrip(':'))}" if text else kind


def _versions() -> dict[str, str]:
    names = ("ssmrec", "torch", "numpy", "numba", "polars")
    found = {name: metadata.version(name) for name in names}
    return {"python": platform.python_version(), "machine": platform.machine(), **found}


def _ids(pairs: Interactions) -> pl.DataFrame:
    """Rows (side, index, id); ids as text, with their type beside them."""
    parts = [
        pl.DataFrame(
            {
                "side": [side] * len(vocabulary),
                "index": np.arange(len(vocabulary), dtype=np.int32),
                "id": vocabulary.ids.cast(pl.String),
                "type": ["int" if vocabulary.ids.dtype == pl.Int64 else "str"] * len(vocabulary),
            }
        )
        for side, vocabulary in (("user", pairs.users), ("item", pairs.items))
    ]
    return pl.concat(parts)


def _checksum(rows: pl.DataFrame) -> str:
    """CRC-32 of what the rows say; the bytes of a Parquet file may differ from one time to the next."""
    return f"{zlib.crc32(rows.write_csv().encode()):08x}"


def _vocabularies(frame: pl.DataFrame) -> tuple[Vocabulary, Vocabulary]:
    found = []
    for side in ("user", "item"):
        rows = frame.filter(pl.col("side") == side).sort("index")
        ids = rows["id"]
        found.append(Vocabulary(ids.cast(pl.Int64) if (rows["type"] == "int").all() else ids))
    return found[0], found[1]
