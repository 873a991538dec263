"""Making it less wrong: settings, loop, protocols, run folders."""

from ssmrec.training.checkpoint import Checkpoint
from ssmrec.training.config import (
    EvaluationConfig,
    RankingConfig,
    RunConfig,
    TrainConfig,
    label,
    resolve,
)
from ssmrec.training.diverged import DivergedError
from ssmrec.training.given import differing, unused
from ssmrec.training.listener import Listener
from ssmrec.training.loop import Trainer, Watch
from ssmrec.training.protocols import Trained, train_run
from ssmrec.training.run import load_run, save_run

__all__ = [
    "Checkpoint", "DivergedError", "EvaluationConfig", "Listener", "RankingConfig", "RunConfig", "TrainConfig",
    "Trained", "Trainer", "Watch", "differing", "label", "load_run", "resolve",
    "save_run", "train_run", "unused",
]  # fmt: skip
