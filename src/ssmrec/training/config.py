"""The settings of a whole run, and how the ones left open follow from the others."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from ssmrec.config import Config, build, nearest, settings_of
from ssmrec.data import DataConfig, Interactions
from ssmrec.errors import ConfigError
from ssmrec.evaluation import parse_metric
from ssmrec.losses import LOSSES, Loss
from ssmrec.models import MODELS, Backbone
from ssmrec.negatives import SAMPLERS, Sampler
from ssmrec.training.device import Precision
from ssmrec.training.pairs import (
    check_mixing,
    debiased,
    default_negatives,
    fitting_similarity,
    mismatches,
)
from ssmrec.training.peers import DistributedConfig

logger = logging.getLogger("ssmrec")

Protocol = Literal["valid", "refit", "fixed", "published"]


class TrainConfig(Config):
    """How to train.

    Attributes:
        protocol: `valid`: validation pairs carved from train choose the epoch. `refit`: the same,
            then one training on train + validation for that many epochs. `fixed`: train on all of
            train for exactly `epochs`. `published`: train on all of train, epoch chosen on TEST as
            the published code does; shown with a warning.
        epochs: passes over the training pairs, at most (exactly, when `fixed`).
        batch_size: positives in one step.
        optimizer: `adam` moves every row at every step, as the published codes do. `lazy_adam` moves
            the rows of the batch only, so that its cost does not grow with the catalogue (mf).
        lr: learning rate of Adam.
        lr_decay: `none`, or `linear` to zero over `epochs` (over `budget` when there is one).
        budget: seconds for graph, start and steps (evaluations do not count), after which training
            stops within an epoch; None for no limit. What is reached then depends on the machine.
            `refit` trains twice, each time for as long at most.
        weight_power: the loss of a pair counts (its weight)^weight_power times, relative to their mean: 1 is
            in proportion to `data.weight` or `data.event_weights`, 0.5 by the root, 0 all alike.
        l2: weight of 0.5 * ||row||^2 per batch row, on layer-0 rows, as in the authors' code.
        choose_model: within the budget, try popular, ease, svd, then lightgcn, and keep the blend of them that
            is best on validation, or the best one; set by a budget when neither model nor loss nor sampler
            is named and `protocol` is `valid` or `refit`.
        stable_rank: weight of minus the stable rank of the batch's vectors, in the first epochs.
        stable_rank_epochs: those first epochs.
        resn: weight of the scores along their leading direction, which follows popularity (ReSN).
        patience: evaluations without a better `metric` before stopping.
        eval_every: epochs between evaluations.
        metric: what chooses the epoch, such as ndcg@20.
        valid_users: most users whose validation pairs choose; of more, so many are drawn once by the seed.
            To rank for a million users after every epoch would take longer than the epoch.
        device: `auto` takes CUDA when there is one.
        precision: of the matrix products of a step on CUDA. `tf32` rounds their inputs to 10 bits;
            `bf16` to 7, and keeps tables, sums and the optimiser in float32. Ranking is always float32.
        threads: CPU threads; None takes all cores.
    """

    protocol: Protocol = "valid"
    epochs: int = Field(default=100, ge=0)
    batch_size: int = Field(default=2048, ge=1)
    optimizer: Literal["adam", "lazy_adam"] = "adam"
    lr: float = Field(default=1e-3, gt=0)
    lr_decay: Literal["none", "linear"] = "none"
    weight_power: float = Field(default=0.0, ge=0, le=2)
    l2: float = Field(default=1e-5, ge=0)
    budget: float | None = Field(default=None, gt=0)
    choose_model: bool = False
    stable_rank: float = Field(default=0.0, ge=0)
    stable_rank_epochs: int = Field(default=5, ge=0)
    resn: float = Field(default=0.0, ge=0)
    patience: int = Field(default=10, ge=1)
    eval_every: int = Field(default=1, ge=1)
    metric: str = "ndcg@20"
    valid_users: int = Field(default=100_000, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "float32"
    threads: int | None = Field(default=None, ge=1)


class RankingConfig(Config):
    """Attributes:
    similarity: `dot` or `cosine` for ranking; `auto` takes the one that fits the sampler.
    """

    similarity: Literal["auto", "cosine", "dot"] = "auto"


class EvaluationConfig(Config):
    """Attributes:
    metrics: names such as recall, ndcg, precision, hit, mrr, map.
    ks: list lengths.
    """

    @field_validator("metrics", "ks", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (str, int)) else value

    @field_validator("metrics", "ks")
    @classmethod
    def _not_empty(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("must name at least one")
        return value

    @field_validator("metrics")
    @classmethod
    def _without_length(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            kind, at, cut = name.partition("@")
            if at:
                raise ValueError(f"holds names only: write {kind}, and evaluation.ks=[{cut}]")
        return value

    metrics: tuple[str, ...] = ("recall", "ndcg", "precision", "hit", "mrr", "map")
    ks: tuple[int, ...] = (5, 10, 20)

    @property
    def names(self) -> list[str]:
        """Every metric at every list length: `recall@5` ..."""
        return [f"{metric}@{k}" for metric in self.metrics for k in self.ks]


class RunConfig(Config):
    """All settings of a run: the same names on the command line, in YAML and in Python."""

    data: DataConfig = DataConfig()
    model: dict[str, Any] = {}
    loss: dict[str, Any] = {}
    negatives: dict[str, Any] = {"name": "auto"}
    ranking: RankingConfig = RankingConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    distributed: DistributedConfig = DistributedConfig()
    seed: int = Field(default=0, ge=0, le=2**63 - 1)


def resolve(values: Mapping[str, Any] | RunConfig) -> RunConfig:
    """Complete settings: every part checked against its own schema, every `auto` decided.

    Raises:
        ConfigError: for an unknown key or part, a value out of range, or parts that do not fit.
    """
    run = values if isinstance(values, RunConfig) else build(RunConfig, values)
    resolved = completed(run)
    if _nothing_named(run) and not resolved.train.choose_model:
        logger.info(
            "a budget chooses among popular, ease, svd, lightgcn and their blend by train.metric on "
            "validation, which needs train.protocol=valid or refit, and a metric of evaluation.metrics: "
            "lightgcn is trained"
        )
    for warning in mismatches(resolved):
        logger.warning(warning)
    return resolved


def completed(values: Mapping[str, Any] | RunConfig) -> RunConfig:
    """As `resolve`, without its warnings."""
    run = values if isinstance(values, RunConfig) else build(RunConfig, values)
    choosing = run.train.choose_model or (_nothing_named(run) and _judged(run))
    if choosing and not (_judged(run) and run.train.budget):
        raise ConfigError(
            "train.choose_model=true tries models for train.budget seconds and keeps the best on "
            "validation: set a budget, train.protocol=valid or refit, and a train.metric of "
            "evaluation.metrics"
        )
    model = _part(run.model, MODELS, "model", "lightgcn")
    loss = _part(run.loss, LOSSES, "loss", "ssm")
    loss_class = LOSSES[loss["name"]]
    chosen = dict(run.negatives)
    if chosen.get("name", "auto") == "auto":
        extra = {key: value for key, value in chosen.items() if key != "name"}
        chosen = default_negatives(loss_class) | extra
    negatives = _part(chosen, SAMPLERS, "negatives", "in_batch")
    check_mixing(loss["name"], negatives["name"])
    # What is asked of a sampler that the loss has no use for decides nothing.
    ranked_for = default_negatives(loss_class) if loss_class.on_vectors else negatives
    _check_metrics(run)
    if MODELS[model["name"]].own_scores and run.ranking.similarity == "cosine":
        raise ConfigError(
            f"ranking.similarity=cosine: {model['name']} ranks by scores of its own, which have no "
            "cosine; set ranking.similarity=dot"
        )
    return run.model_copy(
        update={
            "model": model,
            "loss": loss,
            "negatives": negatives,
            "train": run.train.model_copy(update={"choose_model": choosing}),
            "ranking": RankingConfig(
                similarity=run.ranking.similarity
                if run.ranking.similarity != "auto"
                else "dot"
                if MODELS[model["name"]].closed_form
                else fitting_similarity(loss["similarity"], debiased(ranked_for))
            ),
        }
    )


def _check_metrics(run: RunConfig) -> None:
    if min(run.evaluation.ks) < 1:
        raise ConfigError(f"evaluation.ks: must be at least 1 (got {list(run.evaluation.ks)})")
    named = [("evaluation.metrics", name) for name in run.evaluation.names]
    for key, name in [("train.metric", run.train.metric), *named]:
        try:
            parse_metric(name)
        except ConfigError as error:
            raise ConfigError(f"{key}: {error}") from None


def _judged(run: RunConfig) -> bool:
    """Whether validation tells which of several models is the best."""
    chosen = run.train.protocol in ("valid", "refit")
    return chosen and run.train.metric in run.evaluation.names


def _nothing_named(run: RunConfig) -> bool:
    """A budget, and no model, loss, sampler, similarity or optimiser."""
    named = run.model or run.loss or run.negatives.get("name", "auto") != "auto"
    own = run.ranking.similarity != "auto" or run.train.optimizer != "adam"
    return run.train.budget is not None and not named and not own


def closed_form(run: RunConfig) -> bool:
    """Whether the model is solved at once, so that loss, negatives and epochs are not used."""
    return MODELS[run.model["name"]].closed_form


def label(run: RunConfig) -> str:
    """The run in a table of results: `lightgcn + ssm`, or `ease`."""
    if run.train.choose_model:
        return "budget"
    name = run.model["name"]
    if name == "blend":
        return composition(run.model["parts"])
    return name if closed_form(run) else f"{name} + {run.loss['name']}"


def composition(parts: Sequence[Mapping[str, Any]]) -> str:
    """A blend in a table of results: `0.9 mf + bsl & 0.1 svd`; a blend in it stands in brackets."""
    told = (f"{part['weight']:.2g} {_bracketed(part['name'])}" for part in parts)
    return " & ".join(told) or "blend"


def _bracketed(name: str) -> str:
    return f"({name})" if " & " in name else name


def make_model(run: RunConfig, train: Interactions, generator: Any) -> Backbone:
    """The backbone of resolved settings, with its initial weights."""
    cls = MODELS[run.model["name"]]
    return cls(settings_of(cls, run.model, "model"), train, generator)


def make_loss(run: RunConfig) -> Loss:
    """The loss of resolved settings."""
    cls = LOSSES[run.loss["name"]]
    return cls(settings_of(cls, run.loss, "loss"))


def make_sampler(run: RunConfig, train: Interactions) -> Sampler:
    """The sampler of resolved settings."""
    cls = SAMPLERS[run.negatives["name"]]
    return cls(settings_of(cls, run.negatives, "negatives"), train)


def reopened(config: RunConfig, loss: str) -> dict[str, Any]:
    """Resolved settings with `auto` again where that is what they are, so that they follow changes.

    The sampler does where the loss to come, `loss`, is another one.
    """
    values = config.model_dump(mode="json")
    negatives = {} if loss == config.loss["name"] else {"negatives": {"name": "auto"}}
    for auto in (negatives, {"ranking": {"similarity": "auto"}}):
        if completed(values | auto) == config:
            values |= auto
    return values


def _part(
    values: Mapping[str, Any], table: Mapping[str, Any], where: str, default: str
) -> dict[str, Any]:
    """`values` of one part, completed with the defaults of the class its name stands for."""
    name = values.get("name", default)
    if not isinstance(name, str):
        raise ConfigError(f"{where}.name: must be a word (got {name!r})")
    if name not in table:
        hint = "; a part of your own: `ssmrec --plugin FILE ...` (docs/extending.md)"
        raise ConfigError(f"unknown {where}.name {name!r}{nearest(name, table)}{hint}")
    settings = settings_of(table[name], values, where)
    return {"name": name, **settings.model_dump(mode="json")}
