"""Which parts of a run fit each other: what is taken when one is left open, warned of, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ssmrec.config import settings_of
from ssmrec.errors import ConfigError
from ssmrec.losses import LOSSES, Loss, Similarity
from ssmrec.models import MODELS
from ssmrec.negatives import SAMPLERS

if TYPE_CHECKING:
    from ssmrec.training.config import RunConfig


def default_negatives(loss: type[Loss]) -> dict[str, Any]:
    """The loss's own sampler, else in-batch with log q subtracted and known positives left out.

    This pair, ranked by cosine, fits every backbone and was the better one where it was compared
    (docs/findings.md). Uncorrected in-batch negatives need message passing and ranking by dot.
    """
    if loss.default_negatives is not None:
        return dict(loss.default_negatives)
    return {"name": "in_batch", "exclude_known": True, "log_q": True}


def fitting_similarity(train: Similarity, debiased: bool) -> Similarity:
    """Ranking by dot after dot training, or to give popularity back; cosine when it was never lost."""
    return "cosine" if train == "cosine" and debiased else "dot"


def debiased(negatives: Mapping[str, Any]) -> bool:
    """Whether a sampler of such settings leaves popularity in the cosine."""
    cls = SAMPLERS[negatives["name"]]
    return cls.is_debiased(settings_of(cls, negatives, "negatives"))


def check_mixing(loss: str, negatives: str) -> None:
    """Vectors that are no items suit no loss that asks which items its negatives are.

    Raises:
        ConfigError: the two do not go together.
    """
    cls = LOSSES[loss]
    if SAMPLERS[negatives].mixes and (cls.needs_context or cls.on_vectors):
        raise ConfigError(
            f"negatives.name={negatives} makes vectors, not items, and loss.name={loss} asks for items or "
            "takes no negatives: choose another of the two, as loss.name=bpr"
        )


def mismatches(run: RunConfig) -> list[str]:
    """Warnings on settings that work against each other."""
    model = MODELS[run.model["name"]]
    if model.closed_form:
        return []
    found = _untrained(run)
    if run.loss["name"] == "softmax" and run.negatives["name"] != "all":
        found.append(
            f"negatives.name={run.negatives['name']} makes loss.name=softmax the sampled one, ssm: leave the "
            "negatives out for all items"
        )
    if LOSSES[run.loss["name"]].on_vectors:  # no negatives, so nothing to be out of step with
        return found
    if run.loss["similarity"] == "dot":
        if run.ranking.similarity == "cosine" and not model.own_scores:
            found.append(
                "inner products were trained, and ranking by cosine leaves out the lengths that are part of "
                "them: rank by dot"
            )
        return found
    free, rank, passing = debiased(run.negatives), run.ranking.similarity, model.message_passing
    if not free and rank == "cosine":
        found.append(
            "popularity-proportional negatives without log q take popularity out of the cosine, and "
            "ranking by cosine never gives it back: rank by dot, or set negatives.log_q=true"
        )
    if free and rank == "dot" and passing:
        found.append(
            "debiased negatives keep popularity in the cosine, and ranking by dot adds it again "
            "through vector lengths: rank by cosine"
        )
    if not free and not passing and "log_q" not in run.negatives:
        own = not SAMPLERS[run.negatives["name"]].__module__.startswith("ssmrec.")
        found.append(
            f"negatives.name={run.negatives['name']} is taken to draw by popularity, which {run.model['name']} "
            "cannot give back: if it does not, let its is_debiased say so (docs/extending.md)"
            if own
            else f"negatives.name={run.negatives['name']} draws by popularity, which {run.model['name']} "
            "cannot give back: take negatives.name=uniform, or a model with message passing, such as lightgcn"
        )
    elif not free and not passing:
        found.append(
            f"{run.model['name']} has no message passing, so vector lengths cannot give back the "
            "popularity that uncorrected in-batch negatives take: set negatives.log_q=true or use "
            "negatives.name=uniform, and rank by cosine"
        )
    return found


def _untrained(run: RunConfig) -> list[str]:
    """Warnings on what no step will change."""
    found = []
    model = MODELS[run.model["name"]]
    width = model.width(settings_of(model, run.model, "model"))
    longest = max(run.loss.get("prefixes", ()), default=0)
    if longest and width and longest < width:
        found.append(
            f"loss.prefixes: the loss never sees the last {width - longest} of {width} numbers of a vector, "
            f"and ranking uses them: add {width}"
        )
    if run.train.batch_size == 1 and run.negatives["name"] == "in_batch":
        found.append(
            "a batch of one pair has no other items to be its negatives: raise train.batch_size, or take "
            "negatives.name=uniform"
        )
    return found
