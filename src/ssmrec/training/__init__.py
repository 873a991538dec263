"""Making it less wrong: settings, loop, protocols, run folders."""

from ssmrec.training.checkpoint import Checkpoint
from ssmrec.training.config import EvaluationConfig, RankingConfig, RunConfig, TrainConfig, resolve
from ssmrec.training.listener import Listener
from ssmrec.training.loop import Trainer, Watch
from ssmrec.training.protocols import Trained, train_run
from ssmrec.training.run import load_run, save_run

__all__ = [
    "Checkpoint", "EvaluationConfig", "Listener", "RankingConfig", "RunConfig", "TrainConfig",
    "Trained", "Trainer", "Watch", "load_run", "resolve", "save_run", "train_run",
]  # fmt: skip
