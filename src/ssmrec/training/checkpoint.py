"""One file that holds a training after a whole epoch, replaced atomically; no pickle."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ssmrec.errors import RunError, cut
from ssmrec.storage.facts import read_phases
from ssmrec.storage.files import CHECKPOINT, replaced, sweep
from ssmrec.storage.stored import assert_alike, load_moments
from ssmrec.storage.tensors import Stored, assert_whole, give, write_tensors
from ssmrec.training.config import completed
from ssmrec.training.diverged import DivergedError
from ssmrec.training.given import flat
from ssmrec.training.loop import State, Trainer
from ssmrec.training.peers import current

_EVERY = 30.0
"""Time between checkpoints as a multiple of what writing the last one took."""
_FREE = (
    "train.threads",
    "train.device",
    "train.budget",
    "train.patience",
    "evaluation",
    "distributed",
)
"""Settings that may change between the parts of a resumed training."""
_TIES = "data.split.ties"
"""A setting that changed what the older settings mean: the data tell what it was."""


class Checkpoint:
    """Saves and restores trainers as `checkpoint.safetensors` of a run folder.

    Of several processes the one numbered 0 writes and all read. The file holds whole tables, however
    they are divided among the processes, so that any number of them goes on from it.

    Args:
        folder: the run folder.
        data: fingerprint of the data; settings: of the run, as JSON has them. Both must be the same
            to go on, but for `_FREE`, and for `train.epochs` where the rate does not depend on it.
        resume: whether an existing checkpoint is used; otherwise it is ignored.

    Attributes:
        model: settings of the model that `train.choose_model` had chosen for what was saved.
    """

    def __init__(self, folder: Path, data: str, settings: Mapping[str, Any], resume: bool) -> None:
        self.path = folder / CHECKPOINT
        self.data, self.settings = data, dict(settings)
        self.due, self.written = -math.inf, 0
        self.model: dict[str, Any] | None = None
        self.phases: dict[str, Any] = {}
        self.tensors: dict[str, Tensor] = {}
        self.unread: set[str] = set()  # phases whose tensors are in the file only
        self.writes = current().rank == 0
        if self.writes:
            sweep(folder)
        if resume and self.path.exists():
            self._read()

    def run(self, phase: str, trainer: Trainer) -> None:
        """Restore `trainer`, run it, saving from time to time, and keep what a next phase needs."""
        self.restore(phase, trainer)
        if trainer.state.epoch:
            trainer.listener.note(f"{phase}: going on after epoch {trainer.state.epoch}")
        try:
            trainer.run(lambda t: self.after_epoch(phase, t))
        except DivergedError as error:
            self._keep_best(phase, trainer, error)
            raise
        if trainer.state.stopped != "interrupted":
            self.end_phase(phase, trainer)

    def restore(self, phase: str, trainer: Trainer) -> None:
        """Set `trainer` to the saved state if this `phase` was saved."""
        if phase not in self.phases:
            return
        with self._reading():
            if phase in self.unread:
                self._take(phase, trainer)
            self._restore(phase, trainer)

    def _restore(self, phase: str, trainer: Trainer) -> None:
        trainer.state = State(best=self._part(phase, "best"), **self.phases[phase])
        trainer.start -= sum(record["train_seconds"] for record in trainer.state.history)
        model, own = self._part(phase, "model"), trainer.model.state_dict()
        if trainer.state.best:
            assert_alike(trainer.state.best, own)
        if not model:  # an ended phase keeps its choice only
            trainer.model.load_state_dict(trainer.state.best)
            trainer.epochs = trainer.state.epoch
            return
        assert_alike(model, own)
        assert_alike(loss := self._part(phase, "loss"), trainer.loss.state_dict())
        trainer.model.load_state_dict(model)
        trainer.loss.load_state_dict(loss)
        load_moments(trainer.optimizer, _parameters(trainer), self._part(phase, "adam"))

    def after_epoch(self, phase: str, trainer: Trainer) -> None:
        """Save if there is no checkpoint yet, or the last one is long ago for what saving costs.

        A checkpoint that cannot be written is told, and training goes on.
        """
        start = time.monotonic()
        due, divided = start >= self.due, trainer.peers.divided(trainer.model)
        if divided:  # all give their rows, or none does
            due = bool(trainer.peers.first(float(due)))
        if not due or not (self.writes or divided):
            return
        try:
            self.save(phase, trainer)
        except RunError as error:
            trainer.listener.note(f"{error}; training goes on without")
        self.due = time.monotonic() + _EVERY * (time.monotonic() - start)

    def save(self, phase: str, trainer: Trainer) -> None:
        """Write all of `trainer` now; the earlier file stays whole until the new one is.

        Raises:
            RunError: the file cannot be written.
        """
        self._set(phase, "best", trainer.state.best)
        self._set(phase, "model", trainer.model.state_dict())
        self._set(phase, "loss", trainer.loss.state_dict())
        moments = {}
        for index, parameter in enumerate(_parameters(trainer)):
            for name, tensor in trainer.optimizer.state[parameter].items():
                moments[f"{index}/{name}"] = tensor
        self._set(phase, "adam", moments)
        self.phases[phase] = _meta(trainer.state)
        metadata = {
            "data": self.data,
            "settings": json.dumps(self.settings),
            "phases": json.dumps(self.phases),
        }
        tensors = {name: self._stored(name, trainer) for name in self.tensors}
        try:
            if self.writes:
                with replaced(self.path) as part:
                    write_tensors(part, tensors, metadata)
        except (OSError, SafetensorError) as error:
            raise RunError(f"{self.path}: the checkpoint cannot be written ({error})") from None
        finally:
            give(tensors.values())
        self.written = trainer.state.epoch

    def end_phase(self, phase: str, trainer: Trainer) -> None:
        """Keep only the choice of an ended phase, for the phase that follows."""
        self._set(phase, "best", trainer.state.best)
        for kind in ("model", "loss", "adam"):
            self._set(phase, kind, {})
        self.phases[phase] = _meta(trainer.state)

    def _keep_best(self, phase: str, trainer: Trainer, error: DivergedError) -> None:
        """Say in `error` what is left of a training that diverged, and keep it for `kept`."""
        if trainer.state.best:
            trainer.state.stopped = "diverged"
            self.end_phase(phase, trainer)
            error.best_epoch = trainer.state.best_epoch
        elif self.written and phase == "train" and trainer.config.train.lr_decay == "none":
            error.args = (
                f"{error}; its checkpoint holds epoch {self.written}: with train.epochs="
                f"{self.written} and --resume the training ends there",
            )

    def remove(self) -> None:
        """Delete the file: the run is complete."""
        if self.writes:
            self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        with self._reading():
            if self.writes:  # one process looks for all
                assert_whole(self.path)
            with safe_open(self.path, framework="pt") as file:
                meta = file.metadata() or {}
            data, settings = meta["data"], dict(json.loads(meta["settings"]))
            phases = read_phases(meta["phases"])
        differs = self._difference(settings) or self._other_data(data, settings)
        if differs:
            raise RunError(
                f"{self.path}: cannot go on with other settings ({differs}); repeat the command "
                "that began the run, or train into another folder"
            )
        done = max((phase["epoch"] for phase in phases.values()), default=0)
        if done > (most := self.settings.get("train", {}).get("epochs", done)):
            raise RunError(
                f"{self.path}: holds {done} epochs, more than train.epochs={most}, and none is undone: "
                f"--resume with train.epochs={done} ends there, or train with --overwrite"
            )
        self.phases, self.unread = phases, set(phases)
        if self._chooses(settings):
            self.model = settings["model"]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Whatever fails while the file is read becomes one line."""
        try:
            yield
        except (
            SafetensorError,
            OSError,
            LookupError,
            ValueError,
            TypeError,
            RuntimeError,
        ) as error:
            told = cut((str(error).splitlines() or [""])[0])
            raise RunError(
                f"{self.path}: the checkpoint is damaged ({told}); train with --overwrite, not --resume"
            ) from None

    def _take(self, phase: str, trainer: Trainer) -> None:
        """Read the tensors of a phase, and of divided tables the rows that this process holds."""
        self.unread.discard(phase)
        with safe_open(self.path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                if not name.startswith(f"{phase}/"):
                    continue
                table = file.get_slice(name) if _of_model(name) else None
                own = None if table is None else trainer.peers.held(trainer.model, table)
                # A copy: what is mapped would keep all of the file in memory.
                self.tensors[name] = file.get_tensor(name).clone() if own is None else own

    def _stored(self, name: str, trainer: Trainer) -> Stored:
        tensor = self.tensors[name]
        return trainer.peers.stored(trainer.model, tensor) if _of_model(name) else tensor

    def _difference(self, settings: Mapping[str, Any]) -> str:
        """The first setting that differs and matters, as `key: then, now`; empty when none does."""
        then, now = flat(settings), flat(self.settings)
        free = _FREE if now.get("train.lr_decay") == "linear" else (*_FREE, "train.epochs")
        if self._chooses(settings) and self._chooses(self.settings):
            free = (*free, "model.")
        if self._chooses(settings) != self._chooses(self.settings):
            return "a model is named in one of the two commands only"
        # What a setting was that did not exist then.
        younger = {**self._defaults(), _TIES: now.get(_TIES)}
        for key in sorted((then.keys() | now.keys()) - {"train.choose_model"}):
            before = then.get(key, younger.get(key))
            if before != now.get(key) and not key.startswith(free):
                return f"{key}: {before} then, {now.get(key)} now"
        return ""

    def _other_data(self, data: str, settings: Mapping[str, Any]) -> str:
        if data == self.data:
            return ""
        young = _TIES not in flat(settings) and flat(self.settings).get(_TIES, "item") != "item"
        return "the data differ" + (
            f", or their split: {_TIES}=item divides rows of one timestamp as was done then"
            if young
            else ""
        )

    def _defaults(self) -> dict[str, Any]:
        parts = {
            part: {"name": values["name"]}
            for part, values in self.settings.items()
            if isinstance(values, Mapping) and "name" in values
        }
        return flat(completed(parts).model_dump(mode="json"))

    @staticmethod
    def _chooses(settings: Mapping[str, Any]) -> bool:
        return bool(settings.get("train", {}).get("choose_model"))

    def _part(self, phase: str, kind: str) -> dict[str, Tensor]:
        prefix = f"{phase}/{kind}/"
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }

    def _set(self, phase: str, kind: str, tensors: Mapping[str, Tensor]) -> None:
        for name in self._part(phase, kind):
            del self.tensors[f"{phase}/{kind}/{name}"]
        for name, tensor in tensors.items():
            self.tensors[f"{phase}/{kind}/{name}"] = tensor.detach().cpu().contiguous()


def _of_model(name: str) -> bool:
    """Whether a tensor is one of the model or its optimiser, and not of the loss."""
    return name.split("/")[1] != "loss"


def _parameters(trainer: Trainer) -> list[Tensor]:
    """Everything the optimiser changes, in its order."""
    return [p for group in trainer.optimizer.param_groups for p in group["params"]]


def _meta(state: State) -> dict[str, Any]:
    """What JSON can hold of a state: all but the parameters and why it stopped."""
    return {
        "epoch": state.epoch,
        "history": state.history,
        "best_epoch": state.best_epoch,
        "best_value": state.best_value if state.best else -1e300,
        "stopped": "diverged" if state.stopped == "diverged" else "",
    }
