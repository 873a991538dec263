"""One file that holds a training after a whole epoch, replaced atomically; no pickle."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ssmrec.errors import RunError
from ssmrec.training.loop import State, Trainer

_EVERY = 20.0
"""Seconds between checkpoints, so that short epochs do not spend their time writing."""


class Checkpoint:
    """Saves and restores trainers as `checkpoint.safetensors` of a run folder.

    Args:
        folder: the run folder.
        key: what the run must agree on to be continued (settings and data fingerprint).
        resume: whether an existing checkpoint is used; otherwise it is ignored.
    """

    def __init__(self, folder: Path, key: str, resume: bool) -> None:
        self.path = folder / "checkpoint.safetensors"
        self.key, self.saved = key, -math.inf
        self.phases: dict[str, Any] = {}
        self.tensors: dict[str, Tensor] = {}
        if resume and self.path.exists():
            self._read()

    def run(self, phase: str, trainer: Trainer) -> None:
        """Restore `trainer`, run it, saving from time to time, and keep what a next phase needs."""
        self.restore(phase, trainer)
        if trainer.state.epoch:
            trainer.listener.note(f"{phase}: going on after epoch {trainer.state.epoch}")
        trainer.run(lambda t: self.after_epoch(phase, t))
        if trainer.state.stopped != "interrupted":
            self.end_phase(phase, trainer)

    def restore(self, phase: str, trainer: Trainer) -> None:
        """Set `trainer` to the saved state if this `phase` was saved."""
        if phase not in self.phases:
            return
        trainer.state = State(best=self._part(phase, "best"), **self.phases[phase])
        model = self._part(phase, "model")
        if not model:  # an ended phase keeps its choice only
            trainer.model.load_state_dict(trainer.state.best)
            trainer.epochs = trainer.state.epoch
            return
        trainer.model.load_state_dict(model)
        trainer.loss.load_state_dict(self._part(phase, "loss"))
        moments = self._part(phase, "adam")
        for index, parameter in enumerate(trainer.optimizer.param_groups[0]["params"]):
            trainer.optimizer.state[parameter] = {
                name: moments[f"{index}/{name}"].to(parameter.device)
                for name in ("step", "exp_avg", "exp_avg_sq")
            }

    def after_epoch(self, phase: str, trainer: Trainer) -> None:
        """Save if there is no checkpoint yet, or the last one is some time ago."""
        if time.monotonic() - self.saved >= _EVERY:
            self.save(phase, trainer)

    def save(self, phase: str, trainer: Trainer) -> None:
        """Write all of `trainer` now; the earlier file stays whole until the new one is."""
        self._set(phase, "best", trainer.state.best)
        self._set(phase, "model", trainer.model.state_dict())
        self._set(phase, "loss", trainer.loss.state_dict())
        moments = {}
        for index, parameter in enumerate(trainer.optimizer.param_groups[0]["params"]):
            for name, tensor in trainer.optimizer.state[parameter].items():
                moments[f"{index}/{name}"] = tensor
        self._set(phase, "adam", moments)
        self.phases[phase] = _meta(trainer.state)
        part = self.path.with_suffix(".part")
        metadata = {"key": self.key, "phases": json.dumps(self.phases)}
        save_file(self.tensors, part, metadata=metadata)
        os.replace(part, self.path)
        self.saved = time.monotonic()

    def end_phase(self, phase: str, trainer: Trainer) -> None:
        """Keep only the choice of an ended phase, for the phase that follows."""
        self._set(phase, "best", trainer.state.best)
        for kind in ("model", "loss", "adam"):
            self._set(phase, kind, {})
        self.phases[phase] = _meta(trainer.state)

    def remove(self) -> None:
        """Delete the file: the run is complete."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        try:
            with safe_open(self.path, framework="pt") as file:
                meta = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            key, self.phases = meta["key"], json.loads(meta["phases"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise RunError(
                f"{self.path}: the checkpoint is damaged ({error}); train without --resume"
            ) from None
        if key != self.key:
            raise RunError(
                f"{self.path}: was made with other settings or data; repeat the command that "
                "began the run, or train into another folder"
            )
        self.tensors = tensors

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


def _meta(state: State) -> dict[str, Any]:
    """What JSON can hold of a state: all but the parameters and why it stopped."""
    return {
        "epoch": state.epoch,
        "history": state.history,
        "best_epoch": state.best_epoch,
        "best_value": state.best_value if state.best else -1e300,
    }
