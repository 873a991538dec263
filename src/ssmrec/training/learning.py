"""Whether a training learns: where it does not, one warning that names the likely causes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ssmrec.data import Interactions
from ssmrec.evaluation import evaluate, most_popular
from ssmrec.losses import Loss
from ssmrec.negatives import Sampler
from ssmrec.training.config import RunConfig
from ssmrec.training.pairs import mismatches

if TYPE_CHECKING:
    from ssmrec.training.loop import Trainer, Watch

_FALL = 1e-3
"""Share of the first epoch's loss that the later ones must lie below it to count as fallen."""
_TEMPERATURES = 0.02, 1.0
"""Cosines are usually divided by something between these; published are 0.025 to 0.3."""
_RATES = 1e-4, 0.1
"""Learning rates of Adam that are in use lie between these."""
_L2 = 1e-2
_MANY = 16
"""Negatives of a positive from which on the first thing that binary losses learn is to say no."""
_FEW = 10
"""Steps an epoch below which half the patience is hardly any training."""


class LearningCheck:
    """Called with the trainer after each epoch, warns once. Nothing of the training depends on it.

    A training is doubted from half its patience on,
    - when for as long no evaluation was better, or the loss has not fallen, or it ends, and its best
      value is not above what the most popular items get on the same pairs;
    - when for as long no evaluation was better and the loss has not fallen;
    - without evaluations, when the loss has not fallen.
    """

    def __init__(self) -> None:
        self.told = False
        self.warm = False  # a start that is good already need not get better
        self.popular: float | None = None

    def __call__(self, trainer: Trainer) -> None:
        if not self.told and (found := self.doubt(trainer)):
            self.told = True
            steps = math.ceil(len(trainer.train) / trainer.config.train.batch_size)
            causes = "; ".join(likely_causes(trainer.config, steps))
            trainer.listener.warning(f"{found}: the model may not be learning. To check: {causes}")

    def doubt(self, trainer: Trainer) -> str:
        """What speaks against the training so far, or nothing."""
        state, watch, settings = trainer.state, trainer.watch, trainer.config.train
        metric, needed = settings.metric, _needed(settings.patience)
        busy = [record for record in state.history if not record.get("idle")]
        if not busy and state.epoch == trainer.epochs:
            own = f"its {state.epoch} epochs went to the parameters of loss.name={trainer.config.loss['name']}"
            return f"{own} alone, and a longer training would reach the model"
        if self.warm:
            return ""
        at = [record["epoch"] for record in busy if watch is None or metric in record]
        if len(at) <= needed:
            return ""
        losses = [record["loss"] for record in state.history]
        stuck = judged(trainer.loss, trainer.sampler) and not fell(losses)
        loss = f"the loss has not fallen since epoch 1 ({losses[0]:.4g}, now {losses[-1]:.4g})"
        if watch is None:
            return loss if stuck else ""
        stale = len(trainer.stale) >= needed
        if stale and stuck:
            return f"{loss}, nor has {metric} risen for {needed} evaluations"
        if not (stale or stuck or state.epoch == trainer.epochs):
            return ""
        if self.popular is None:
            self.popular = popular_value(trainer.train, watch, metric)
        if state.best_value > self.popular:
            return ""
        return (
            f"after {state.epoch} epochs {metric} is {state.best_value:.4f} at best, no more than "
            f"the most popular items get ({self.popular:.4f})"
        )


def _needed(patience: int) -> int:
    """Evaluations without a better one that raise doubts: half the patience, but not one alone."""
    return min(patience, max(2, math.ceil(patience / 2)))


def judged(loss: Loss, sampler: Sampler) -> bool:
    """Whether the loss is to fall while the model learns.

    It need not where the sampler chooses hard negatives or the loss changes from epoch to epoch.
    """
    return type(loss).before_epoch is Loss.before_epoch and not (sampler.chooses or sampler.mixes)


def popular_value(train: Interactions, watch: Watch, metric: str) -> float:
    """The watched metric of the most popular items."""
    vectors, allowed = most_popular(train), train.item_degrees > 0
    return evaluate(*vectors, watch.held_out, watch.seen, [metric], allowed).values[metric]


def fell(losses: list[float]) -> bool:
    """Whether the later half of the losses lies clearly below the first one, in the mean."""
    later = losses[len(losses) // 2 :]
    return sum(later) / len(later) < losses[0] - _FALL * abs(losses[0])


def likely_causes(config: RunConfig, steps: int) -> list[str]:
    """Settings outside of what is usual, each with a remedy; those to try when none is.

    Args:
        config: resolved settings. steps: of the optimiser in an epoch.
    """
    train, found = config.train, []
    temperature, similarity = config.loss.get("temperature"), config.loss["similarity"]
    if temperature is not None and similarity == "cosine":
        low, high = _TEMPERATURES
        if temperature > high:
            found.append(
                f"loss.temperature={temperature:g} keeps all logits within "
                f"±{1 / temperature:.2g}, so that items look alike; take 0.05 to 0.3"
            )
        elif temperature < low:
            found.append(
                f"loss.temperature={temperature:g} lets the hardest negatives alone count; take "
                "0.05 to 0.3"
            )
    if train.lr < _RATES[0]:
        found.append(f"train.lr={train.lr:g} is small; take 0.001 to 0.05")
    elif train.lr > _RATES[1]:
        found.append(f"train.lr={train.lr:g} is large; take 0.001 to 0.05")
    if train.l2 > _L2:
        found.append(f"train.l2={train.l2:g} pulls all vectors to zero; take 1e-5")
    found += mismatches(config)
    if config.loss["name"] in ("bce", "gbce") and config.negatives.get("n", 0) > _MANY:
        found.append(
            f"with {config.negatives['n']} negatives loss.name={config.loss['name']} learns popularity "
            "first, for dozens of epochs; take train.lr=0.01, train.batch_size=256, a larger "
            "train.patience, or negatives.n=4 negatives.shared=false"
        )
    if steps < _FEW:
        found.append(f"{steps} steps an epoch are few; lower train.batch_size")
    return found or [
        "train.lr",
        "train.batch_size",
        "loss.temperature",
        "which negatives fit which ranking (docs/pairs.md)",
    ]
