"""Run folders as a report reads them: their records alone, so that a run of any age or plug-in is shown."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ssmrec.config import parse_yaml
from ssmrec.errors import RunError, cut, shown
from ssmrec.storage.facts import read_history, read_metrics
from ssmrec.storage.files import CHECKPOINT
from ssmrec.training.config import composition
from ssmrec.training.run import CONFIG, FORMAT, HISTORY, METRICS

logger = logging.getLogger("ssmrec")

ANALYSIS = "analysis.json"
_DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
            yaml.YAMLError)  # fmt: skip
"""What reading a file that is not what it should be may raise."""


@dataclass(frozen=True)
class RunRecord:
    """What is on file about one finished run.

    Args:
        name: shortest tail of the folder's path that no other run of the report shares.
        metrics: `metrics.json`; `history`: `history.jsonl`, one record per epoch.
        settings: dotted key -> value, the complete settings.
        versions, fingerprint: of packages, of the data.
        analysis: `analysis.json`, or None.
    """

    folder: Path
    name: str
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    settings: dict[str, Any]
    versions: dict[str, str]
    fingerprint: str
    analysis: dict[str, Any] | None

    @property
    def solved(self) -> bool:
        """Whether the model is a closed form or a blend, without loss, negatives and epochs."""
        return self.metrics.get("stopped") in ("solved", "blended")

    @property
    def parts(self) -> str:
        """Model and loss, such as `lightgcn + ssm`; a model in closed form has no loss."""
        model = self.settings.get("model.name", "?")
        if parts := self.settings.get("model.parts"):
            return composition(parts)
        if self.solved:
            return str(model)
        return f"{model} + {self.settings.get('loss.name', '?')}"

    @property
    def source(self) -> str:
        """The data set's name or path."""
        return str(self.settings.get("data.source", "?"))


def read_runs(folders: Sequence[Path]) -> tuple[list[RunRecord], list[str]]:
    """The finished runs among `folders`, and a line for each that is left out.

    The folder of a comparison stands for its runs. Those whose folders are gone, and what `runs/*` may
    name besides runs (an unfinished training, a file, an empty folder), are left out with a warning.

    Raises:
        RunError: a folder does not exist or holds something else, a run is damaged, or none is finished.
    """
    kept, left, inside = [], [], []
    for folder in dict.fromkeys(folders):
        runs, gone = _of_comparison(folder)
        inside += runs or [folder]
        if gone:
            left.append(
                f"{folder}: {gone} of {gone + len(runs)} runs left out: their folders are gone"
            )
    for folder in dict.fromkeys(inside):
        if reason := _reason_to_leave(folder):
            left.append(f"{folder} is left out: {reason}")
        else:
            kept.append(folder)
    for line in left:
        logger.warning(line)
    if not kept:
        raise RunError(f"no finished run to report on: {'; '.join(left) or 'name run folders'}")
    names = _names(kept)
    return [_read(folder, name) for folder, name in zip(kept, names, strict=True)], left


def differing(runs: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """Settings and versions that are not the same in all runs: key -> one value a run.

    None stands where a run has no such setting, or does not use it (a closed form has no loss).
    """
    tables = [used(run) | {f"version of {k}": v for k, v in run.versions.items()} for run in runs]
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = {key: [table.get(key) for table in tables] for key in keys}
    return {key: values for key, values in rows.items() if any(v != values[0] for v in values)}


def used(run: RunRecord) -> dict[str, Any]:
    """The settings that had a part in the run: a closed form has no loss, negatives and epochs."""
    unused = ("loss.", "negatives.", "train.") if run.solved else ()
    told = {**run.settings, **({"model.parts": run.parts} if "model.parts" in run.settings else {})}
    return {key: value for key, value in told.items() if not key.startswith(unused)}


def of_one_data(runs: Sequence[RunRecord]) -> bool:
    """Whether runs are on the same data, of which each seed may draw other parts."""
    if len({run.fingerprint for run in runs}) == 1:
        return True
    drawn = {(run.settings.get("seed"), run.fingerprint) for run in runs}
    facts = {
        str((_sizes(run), [item for item in run.settings.items() if item[0].startswith("data.")]))
        for run in runs
    }
    return len(facts) == 1 and len(drawn) == len({seed for seed, _ in drawn})


def _sizes(run: RunRecord) -> list[Any]:
    counts = (run.metrics.get("counts") or {}).get("data") or {}
    return [counts.get(side) for side in ("users", "items")]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys: {"loss": {"name": "ssm"}} -> {"loss.name": "ssm"}."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


def rival(results: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Name and analyses of the run that `analysis.json` holds a run against; empty without one."""
    found = results.get("against") or {}
    if not found:
        return "", {}
    name = str(found["run"].get("label"))
    if name == (results.get("run") or {}).get("label") and found["run"].get("folder"):
        name = f"{name} ({Path(found['run']['folder']).name})"
    return name, found


def measured(results: Mapping[str, Any], source: str = "") -> str:
    """What `analysis.json` was measured on: `test`, `validation`, `other data (test of new.csv)`.

    `source`: the data of the run, where it is to be named.
    """
    on = (results.get("settings") or {}).get("on")
    part = "validation" if on == "valid" else str(on)
    if other := (results.get("run") or {}).get("other_data"):
        return f"other data ({part} of {other['source']})"
    return f"{part} of {source}" if source else part


def _of_comparison(folder: Path) -> tuple[list[Path], int]:
    """The run folders of a comparison, without trials, and how many are gone; none for another folder.

    Raises:
        RunError: it has not a single one.
    """
    paths = sorted((folder / "results").glob("*.json"))
    trials = {path.stem: record["trial"] for path in paths if "trial" in (record := _json(path))}
    finished = [folder / "runs" / name for name, trial in trials.items() if trial is None]
    there = [run for run in finished if run.is_dir()]
    if trials and not finished:
        raise RunError(f"{folder}: a comparison without a finished run; go on with ssmrec compare")
    if finished and not there:
        raise RunError(
            f"{folder}: a comparison without its run folders ({folder / 'runs'}): print its table with "
            f"ssmrec compare PLAN --out {folder} --no-run, or delete {folder / 'results'} and compare again, "
            "which trains the runs to report on"
        )
    return there, len(finished) - len(there)


def _reason_to_leave(folder: Path) -> str:
    if not folder.exists():
        raise RunError(f"{folder}: does not exist; name run folders")
    if folder.is_file():
        return "it is a file"
    if (folder / METRICS).exists():
        return ""
    if (folder / CHECKPOINT).exists():
        return "its training is not finished"
    if not any(folder.iterdir()):
        return "it is empty"
    inside = sorted(path.parent.name for path in folder.glob(f"*/{METRICS}"))
    if inside:
        raise RunError(f"{folder}: no run, but a folder of {len(inside)}: name them as {folder}/*")
    raise RunError(f"{folder}: not a run folder (no {METRICS})")


def _read(folder: Path, name: str) -> RunRecord:
    try:
        record = parse_yaml((folder / CONFIG).read_text(encoding="utf-8"))
        version, settings = int(record["format"]), flat(record["settings"])
        versions = {str(k): str(v) for k, v in record["versions"].items()}
        fingerprint = str(record["data_fingerprint"])
        if version > FORMAT:
            raise RunError(
                f"{folder}: has format {version}, this ssmrec reads up to {FORMAT}: upgrade"
            )
        metrics, history = read_metrics(folder / METRICS), read_history(folder / HISTORY)
        extra = folder / ANALYSIS
        analysis = _json(extra) if extra.exists() else None
        run = RunRecord(folder, name, metrics, history, settings, versions, fingerprint, analysis)
        for told in (run.parts, run.settings.get("train.metric", "")):
            if not isinstance(told, str):
                raise ValueError(f"no text: {shown(told)}")
    except _DAMAGED as error:
        first = (str(error).splitlines() or [""])[0]
        raise RunError(
            f"{folder}: damaged or not a run ({type(error).__name__}: {cut(first)}); "
            "restore it, or train again"
        ) from None
    return run


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"{path}: damaged ({cut(str(error))}); restore it, or write it again"
        ) from None
    return values


def _names(folders: Iterable[Path]) -> list[str]:
    paths = [folder.resolve().parts for folder in folders]
    names = []
    for path in paths:
        depth = 1
        while depth < len(path) and sum(other[-depth:] == path[-depth:] for other in paths) > 1:
            depth += 1
        names.append("/".join(path[-depth:]))
    return names
