"""What is kept of every run: a small result for the table, one value a user for the tests.

OUT/results/NAME.json   metrics, settings, versions, seconds; a few kB, fit to be committed
OUT/users/NAME.npz      the metrics of each test user
OUT/table.md, table.csv  the table
OUT/tests.json          p of what was tested, for tables made where those metrics are not kept
OUT/runs/NAME/          the run folder; may be deleted, the table needs it no more
"""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssmrec.compare.methods import Job
from ssmrec.errors import RunError
from ssmrec.evaluation import METRIC_VERSION
from ssmrec.storage.files import (
    CHECKPOINT,
    assert_inside,
    ready,
    replaced,
    spare,
    unwritable,
)
from ssmrec.training.run import write_text

TESTED = "tests.json"
TABLES = {"md": "table.md", "csv": "table.csv"}
"""The files of the table, by format."""
_HEAD = b"data,method,metric,"
_RESULT = re.compile(r".+-[0-9a-f]{8}\.json")
FORMAT = 1
"""Version of the layout; a result of another one is not used."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of one run.

    Args:
        record: what the JSON file holds; `metrics` are the means over users, `failed` says why
            there are none.
        users: int32 (m,) indices of the averaged users; None for a trial, or where only the JSON
            file was kept.
        per_user: float32 (m,) for each metric that was measured.
    """

    record: dict[str, Any]
    users: np.ndarray | None = None
    per_user: dict[str, np.ndarray] | None = None


@dataclass(frozen=True)
class Comparison:
    """What a paired test compares.

    Args:
        key: the settings of both, metric and kind of test: what it is found by.
        title: the same for people, with labels.
        means: of the metric, of both methods, for each of `seeds`: the results it stands on.
    """

    key: str
    title: str
    means: list[list[float]]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Tested:
    """What a paired test found.

    Args:
        p: of the test.
        seeds: those whose users' values were still kept; empty where all of both methods were.
    """

    p: float
    seeds: tuple[int, ...] = ()


class Store:
    """The folder of a comparison. A run is found by its key, so that labels may change."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._tests: dict[str, dict[str, Any]] | None = None
        self._new_tests = False

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            RunError: it cannot be written, holds files of others by the names of ours, or links that lead
                out of it in the place of our folders.
        """
        if not self._begun():
            remedy = "choose another --out, or delete it"
            spare((self.out / name for name in (*TABLES.values(), TESTED)), "a comparison", remedy)
        for name in ("results", "users", "runs"):
            assert_inside(self.out, self.out / name)
        ready(self.out)

    def _begun(self) -> bool:
        """Whether there is a result or a table of a comparison."""
        if any(_RESULT.fullmatch(path.name) for path in (self.out / "results").glob("*.json")):
            return True
        try:
            with (self.out / TABLES["csv"]).open("rb") as table:
                return table.read(len(_HEAD)) == _HEAD
        except OSError:
            return False

    def folder(self, job: Job) -> Path:
        """The run folder of a job, whether it is there or not."""
        return self._find("runs", "", job) or self.out / "runs" / job.name

    def state(self, job: Job) -> str:
        """`finished`, `interrupted` or `missing`."""
        if self._find("results", ".json", job):
            return "finished"
        return "interrupted" if (self.folder(job) / CHECKPOINT).exists() else "missing"

    def load(self, job: Job, metrics: tuple[str, ...]) -> Outcome | None:
        """The result of a job that needs no more work; None where it is to be trained or measured.

        Measured again is what lacks one of `metrics`, or its users' values while its run folder is there.

        Raises:
            RunError: as `kept`.
        """
        found = self.kept(job, metrics)
        if found is None or found.record.get("failed"):
            return found
        lacking = not set(metrics) <= set(found.record["metrics"])
        lost = job.trial is None and found.users is None
        again = lost and (self.folder(job) / "metrics.json").exists()
        return None if lacking or again else found

    def kept(self, job: Job, metrics: tuple[str, ...]) -> Outcome | None:
        """What the files hold of a job, for a table that is only printed; None without a result.

        Of `metrics` it has those that were measured.

        Raises:
            RunError: a file is damaged, or of a version with other defaults.
        """
        path = self._find("results", ".json", job)
        if path is None:
            return None
        try:
            record = json.loads(path.read_text())
            if differs := job.difference(record["settings"]):
                raise ValueError(f"made with other defaults: {differs}")
            if (record["format"], record["metric_version"]) != (FORMAT, METRIC_VERSION):
                return None
            held = [name for name in metrics if name in record["metrics"]]
            path = self.out / "users" / f"{path.stem}.npz"
            if job.trial is not None or not path.exists():
                return Outcome(record)
            with np.load(path, allow_pickle=False) as file:
                return Outcome(record, file["users"], {name: file[name] for name in held})
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise RunError(f"{path}: not of use ({error}); delete it and compare again") from None

    def save(self, job: Job, outcome: Outcome) -> None:
        """Write a result, the JSON file last: where it is, the result is whole.

        Raises:
            RunError: the folder cannot be written.
        """
        found = self._find("results", ".json", job)
        stem = job.name if found is None else found.stem
        try:
            if outcome.users is not None and outcome.per_user is not None:
                self._write_users(self.out / "users" / f"{stem}.npz", outcome)
            path = self.out / "results" / f"{stem}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(outcome.record, indent=1) + "\n")
        except OSError as error:
            raise unwritable(self.out, error) from None

    def tested(self, test: Comparison) -> Tested | None:
        """What a test done before on these results, or on those of some seeds, found; None without one.

        Raises:
            RunError: the file is damaged.
        """
        found = self._known_tests().get(test.key)
        if found is None:
            return None
        at = {tuple(pair): seed for pair, seed in zip(test.means, test.seeds, strict=True)}
        values = [tuple(pair) for pair in found["values"]]
        if not all(pair in at for pair in values):
            return None
        seeds = tuple(found.get("seeds", ())) or tuple(at[pair] for pair in values)
        return Tested(found["p"], () if len(seeds) == len(test.seeds) else seeds)

    def remember(self, test: Comparison, found: Tested) -> Tested:
        """Note what a test found, and the means it stands on; `save_tests` writes it."""
        known = self._known_tests()
        noted = {"title": test.title, "p": found.p, "values": test.means}
        noted |= {"seeds": list(found.seeds)} if found.seeds else {}
        self._new_tests |= known.get(test.key) != noted
        known[test.key] = noted
        return found

    def save_tests(self) -> None:
        """Write what was tested, where anything of it is new.

        Raises:
            RunError: the folder cannot be written.
        """
        if not self._new_tests:
            return
        try:
            write_text(self.out / TESTED, json.dumps(self._tests, indent=1, sort_keys=True) + "\n")
            self._new_tests = False
        except OSError as error:
            raise unwritable(self.out, error) from None

    def _known_tests(self) -> dict[str, dict[str, Any]]:
        if self._tests is None:
            path = self.out / TESTED
            try:
                found = json.loads(path.read_text()) if path.exists() else {}
                self._tests = {
                    name: {**test, "p": test["p"], "values": test["values"]}
                    for name, test in found.items()
                }
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise RunError(
                    f"{path}: not of use ({error}); delete it and compare again"
                ) from None
        return self._tests

    def _write_users(self, path: Path, outcome: Outcome) -> None:
        assert outcome.users is not None and outcome.per_user is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        columns: dict[str, Any] = {"users": outcome.users.astype(np.int32)}
        columns |= {name: values.astype(np.float32) for name, values in outcome.per_user.items()}
        with replaced(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **columns)

    def _find(self, kind: str, suffix: str, job: Job) -> Path | None:
        return next((self.out / kind).glob(f"*-{job.key}{suffix}"), None)
