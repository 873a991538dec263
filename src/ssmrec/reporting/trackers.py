"""Trainings in TensorBoard and MLflow, by the listener that every training has.

| name | writes | needs |
|---|---|---|
| tensorboard | event files in `tensorboard/` of the run folder | the extra `tensorboard` |
| mlflow | a run of `$MLFLOW_EXPERIMENT_NAME` (ssmrec) at `$MLFLOW_TRACKING_URI` | the extra `mlflow` |

Both get the complete settings, one point an epoch of each number of its record (`select/loss`,
`select/ndcg@20`, `select/train_seconds` ...; the phase stands before the slash), and at the end what was
measured (`test/ndcg@20`, `valid/ndcg@20`, `seconds/train` ...).
"""

from __future__ import annotations

import logging
import os
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssmrec.config import choose
from ssmrec.errors import ConfigError, RunError
from ssmrec.storage.files import assert_inside
from ssmrec.training import Listener, RunConfig
from ssmrec.training.given import flat
from ssmrec.training.run import holds

logger = logging.getLogger("ssmrec")

_BATCH = 100
"""Most params that MLflow takes at once."""
_LONGEST = 500
"""Characters of a param's value that every version of MLflow takes."""


class Tracker(Listener):
    """A listener that also hears the settings before, and the results after a training.

    What fails before training is an error. What fails later is told once, and the training goes on
    without being tracked: a server that is down costs no training.
    """

    name = "tracker"

    def __init__(self) -> None:
        self.current, self.status, self.lost = "train", "failed", False

    def begin(self, config: RunConfig) -> None:
        """Log the resolved settings.

        Raises:
            RunError: nothing can be written there.
        """
        try:
            self.open(flat(config.model_dump(mode="json")))
        except Exception as error:  # each library has kinds of its own
            raise RunError(
                f"{self.name}: cannot be written to ({_first(error)}); mend it, or train without it"
            ) from None

    def phase(self, name: str, epochs: int, device: str) -> None:
        self.current = name

    def epoch(self, record: dict[str, Any], best: bool) -> None:
        values = {f"{self.current}/{key}": v for key, v in record.items() if key != "epoch"}
        self._try(lambda: self.log(values, record["epoch"]))

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Log what was measured."""
        self.status = "interrupted" if metrics["stopped"] == "interrupted" else "finished"
        self._try(lambda: self.results(results(metrics)))

    def __exit__(self, *_: object) -> None:
        self._try(self.close)

    def _try(self, call: Callable[[], None]) -> None:
        if self.lost:
            return
        try:
            call()
        except Exception as error:
            self.lost = True
            logger.warning("%s: %s; the training goes on without it", self.name, _first(error))

    @abstractmethod
    def open(self, settings: dict[str, Any]) -> None:
        """Begin with the settings by dotted key."""

    @abstractmethod
    def log(self, values: dict[str, float], step: int) -> None:
        """One point of each curve, at an epoch."""

    @abstractmethod
    def results(self, values: dict[str, float]) -> None:
        """What was measured in the end."""

    @abstractmethod
    def close(self) -> None:
        """End, also when nothing was begun; `status` is finished, interrupted or failed."""


def results(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of `metrics.json` by name: `test/ndcg@20`, `seconds/train`, `best_epoch` ..."""
    found = {
        f"{part}/{name}": value
        for part in ("test", "valid", "seconds")
        for name, value in (metrics.get(part) or {}).items()
    }
    return found | {name: metrics[name] for name in ("best_epoch", "epochs")}


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class TensorBoard(Tracker):
    """Event files for `tensorboard --logdir FOLDER`.

    Args:
        folder: where they go; files of an earlier training there are deleted.
        resume: keep them: this training goes on from that one.

    Raises:
        ConfigError: the package is not installed.
    """

    name = "tensorboard"

    def __init__(self, folder: str | Path, resume: bool = False) -> None:
        super().__init__()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard") from None
        self.make, self.folder, self.resume = SummaryWriter, Path(folder), resume
        self.writer: Any = None
        self.settings: dict[str, Any] = {}

    def open(self, settings: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in () if self.resume else self.folder.glob("events.out.tfevents.*"):
            old.unlink()
        self.writer, self.settings = self.make(str(self.folder)), settings
        lines = [f"    {key}: {value}" for key, value in settings.items()]
        self.writer.add_text("settings", "\n".join(lines))
        self.writer.flush()

    def log(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()  # so that the board follows the training

    def results(self, values: dict[str, float]) -> None:
        plain = {
            key: value if isinstance(value, (bool, int, float)) else str(value)
            for key, value in self.settings.items()
        }
        self.writer.add_hparams(plain, values, run_name=".")

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


class MLflow(Tracker):
    """A run on an MLflow server or store. `@` is no part of its names: `test/ndcg_at_20`.

    Args:
        run_name: shown in the list of runs.
        folder: the run folder, kept as the tag `folder`.
        uri, experiment: None takes the settings of MLflow (`$MLFLOW_TRACKING_URI`), and
            `$MLFLOW_EXPERIMENT_NAME` or `ssmrec`.

    Raises:
        ConfigError: the package is not installed.
    """

    name = "mlflow"

    def __init__(
        self,
        run_name: str | None = None,
        folder: str | Path | None = None,
        uri: str | None = None,
        experiment: str | None = None,
    ) -> None:
        super().__init__()
        try:
            import mlflow
        except ImportError:
            raise _missing("mlflow") from None
        self.library, self.uri, self.run_name, self.folder = mlflow, uri, run_name, folder
        self.experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "ssmrec"
        self.client: Any = None
        self.run_id = ""

    def open(self, settings: dict[str, Any]) -> None:
        entities = self.library.entities
        self.client = self.library.MlflowClient(tracking_uri=self.uri)
        found = self.client.get_experiment_by_name(self.experiment)
        number = found.experiment_id if found else self.client.create_experiment(self.experiment)
        tags = {} if self.folder is None else {"folder": str(self.folder)}
        self.run_id = self.client.create_run(number, run_name=self.run_name, tags=tags).info.run_id
        params = [entities.Param(key, str(value)[:_LONGEST]) for key, value in settings.items()]
        for start in range(0, len(params), _BATCH):
            self.client.log_batch(self.run_id, params=params[start : start + _BATCH])

    def log(self, values: dict[str, float], step: int) -> None:
        now, entities = int(1000 * time.time()), self.library.entities
        metrics = [
            entities.Metric(name.replace("@", "_at_"), float(value), now, step)
            for name, value in values.items()
        ]
        self.client.log_batch(self.run_id, metrics=metrics)

    def results(self, values: dict[str, float]) -> None:
        self.log(values, 0)

    def close(self) -> None:
        if self.run_id:
            status = {"interrupted": "KILLED"}.get(self.status, self.status.upper())
            self.client.set_terminated(self.run_id, status)


def _missing(name: str) -> ConfigError:
    return ConfigError(
        f"tracking by {name} needs its package, which is not installed: pip install 'ssmrec[{name}]'"
    )


def _board(folder: Path, resume: bool) -> TensorBoard:
    """Of a run folder; event files that belong to no run of it are not deleted."""
    place = folder / "tensorboard"
    assert_inside(folder, place)
    return TensorBoard(place, resume or not holds(folder))


TRACKERS: dict[str, Callable[[Path, bool], Tracker]] = {
    "tensorboard": _board,
    "mlflow": lambda folder, resume: MLflow(folder.name, folder),
}
"""A tracker by name, for a run folder and whether its training is resumed."""


def trackers(names: Sequence[str], folder: Path, resume: bool = False) -> list[Tracker]:
    """The trackers of a run folder, each once.

    Raises:
        ConfigError: an unknown name, or its package is not installed.
        RunError: `tensorboard` of the folder is a link that leads out of it.
    """
    return [choose(TRACKERS, name, "--track")(folder, resume) for name in dict.fromkeys(names)]
