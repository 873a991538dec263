"""The Python interface: settings in, `fit`, then lists, metrics and a folder on disk."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch

from ssmrec.config import merged
from ssmrec.data import Interactions, Split
from ssmrec.errors import DataError, RunError
from ssmrec.evaluation import Result, evaluate
from ssmrec.ranking import Ranker, Unknown, as_ids
from ssmrec.ranking.corrections import corrected_vectors
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.reporting.listeners import Listeners
from ssmrec.reporting.progress import ProgressBars
from ssmrec.training import Listener, Trained, load_run, resolve, save_run, train_best
from ssmrec.training.config import completed
from ssmrec.training.grown import grown
from ssmrec.training.warm import fewer_epochs, update_run

logger = logging.getLogger("ssmrec")

PYTHON = "<python>"
"""The data source of a run that was trained from Python: its file, if any, is not known."""
Part = str | Mapping[str, Any]


class Recommender:
    """Trains one backbone with one loss and recommends.

    A part is its name, or a mapping with `name` and its settings, as in the configuration files:
    `Recommender("lightgcn", {"name": "ssm", "temperature": 0.14}, train={"epochs": 20})`.

    Args:
        model: a name of `ssmrec.MODELS`: mf, svdpp, lightgcn ..., or one you added to it. None is
            lightgcn; with train={"budget": seconds} and validation pairs to choose by, the better of
            svd and lightgcn in that time.
        loss: ssm, softmax, bpr, ... (docs/losses.md), or a name you added to `ssmrec.LOSSES`; None is
            ssm.
        negatives: in_batch, uniform, popularity, all; `auto` takes what fits model and loss.
        ranking: {"similarity": "auto" | "dot" | "cosine"}.
        train: epochs, batch_size, lr, l2, patience ... (`ssmrec.training.TrainConfig`).
        evaluation: {"metrics": [...], "ks": [...]}.
        seed: decides all randomness; same seed, same machine, same numbers.

    Attributes:
        config_: the complete settings. history_: one record per epoch. metrics_: what was measured.
    """

    def __init__(
        self,
        model: Part | None = None,
        loss: Part | None = None,
        negatives: Part = "auto",
        *,
        ranking: Mapping[str, Any] | None = None,
        train: Mapping[str, Any] | None = None,
        evaluation: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.loss, self.negatives = model, loss, negatives
        self.ranking, self.train, self.evaluation, self.seed = ranking, train, evaluation, seed
        self._trained: Trained | None = None
        self._fingerprint = ""

    def fit(
        self,
        train: Interactions,
        valid: Interactions | None = None,
        *,
        progress: bool = True,
        listeners: Sequence[Listener] = (),
    ) -> Recommender:
        """Learn from `train`; `valid`, when given, chooses the epoch.

        Without `valid` the training runs for exactly `train["epochs"]` epochs (default 20).
        `listeners` hear of its progress, as the trackers of docs/track.md do.

        Raises:
            ConfigError: a setting is unknown, out of range, or does not fit the data.
            RunError: training diverged.
        """
        for name, part in (("train", train), ("valid", valid)):
            if part is not None:
                _check_pairs(part, name)
        if valid is not None and not _same_ids(train, valid):
            raise DataError(
                "train and valid have different user or item ids: take both from one table with "
                "ssmrec.split, or from files with ssmrec.prepare"
            )
        protocol = (
            {"protocol": "valid"} if valid is not None else {"protocol": "fixed", "epochs": 20}
        )
        values = merged(
            {
                "model": {} if self.model is None else _part(self.model),
                "loss": {} if self.loss is None else _part(self.loss),
                "negatives": _part(self.negatives),
                "data": {"source": PYTHON},
                "seed": self.seed,
            },
            {"train": protocol},
            {"train": self.train or {}},
            {"ranking": self.ranking or {}},
            {"evaluation": self.evaluation or {}},
        )
        split = Split(train, valid, None, "given")
        config = resolve(values)
        with Listeners([*([ProgressBars()] if progress else []), *listeners]) as ears:
            ears.begin(config)
            self._trained = train_best(config, split, ears)
            ears.finish(self._trained.metrics)
        self._fingerprint = split.fingerprint
        return self

    def update(
        self, new: Interactions, *, epochs: int | None = None, progress: bool = True
    ) -> Recommender:
        """Another recommender, trained on from this one with the pairs of `new` among its pairs.

        Users and items are matched by id; a tenth of the new pairs chooses the epoch where validation
        pairs did in `fit`. `epochs` is a quarter of those of `fit` if None. See docs/update.md.

        Raises:
            DataError: no pair is new, or none has a user or an item that is known.
            RunError: training diverged.
        """
        old = self._fitted()
        _check_pairs(new, "new")
        asked = {"train": {"epochs": fewer_epochs(old) if epochs is None else epochs}}
        config = completed(merged(old.config.model_dump(mode="json"), asked))
        data, begun = grown(old, new, config), {"data_fingerprint": self._fingerprint}
        with ProgressBars() if progress else Listener() as listener:
            trained = update_run(old, data, config, begun, listener)
        return Recommender.of(trained, data.split.fingerprint)

    def evaluate(self, test: Interactions, correct: Part | None = None) -> Result:
        """Full-ranking metrics on held-out pairs; all pairs known from `fit` are masked.

        `correct` is a correction of popularity after training, as in `recommend`.
        """
        trained = self._fitted()
        _check_pairs(test, "test")
        users, items = self._vectors(correct)
        return evaluate(
            users, items, _aligned(test, trained.train), [trained.train, trained.seen],
            trained.config.evaluation.names, allowed=trained.train.item_degrees > 0,
        )  # fmt: skip

    def recommend(
        self,
        users: Iterable[Any] | None = None,
        k: int = 10,
        *,
        include_seen: bool = False,
        unknown: Unknown = "error",
        allow: Iterable[Any] | None = None,
        deny: Iterable[Any] | None = None,
        candidates: pl.DataFrame | None = None,
        correct: Part | None = None,
    ) -> pl.DataFrame:
        """The k best items for each user, best first.

        Args:
            users: external ids; None means all users with training pairs.
            k: length of the lists; shorter where fewer items are left.
            include_seen: also list items the user already has.
            unknown: what to do with users that were not trained on: `error`, `skip` (logged), or
                `popular`, the most popular items.
            allow: items that may be listed; None allows all that were trained on.
            deny: items that may not.
            candidates: columns user and item: a user's list holds his candidates only.
            correct: a correction of popularity after training: `tten`, `edge`, `dap`, with settings
                as in `edge:strength=0.5` or {"name": "edge", "strength": 0.5}.

        Returns:
            Columns user, rank (from 1), item, score.

        Raises:
            DataError: unknown users under `unknown="error"`, no list of ids, or filters of items
                that were never trained on.
            ConfigError: `k` or `unknown` is not one of the values above.
        """
        ranker = self.ranker(correct)
        choice = ranker.choice(
            k, include_seen=include_seen, allow=allow, deny=deny, candidates=candidates
        )
        return ranker.recommend(None if users is None else as_ids(users), choice, unknown)

    def similar(self, items: Iterable[Any], k: int = 10) -> pl.DataFrame:
        """The k items most like each of `items`: columns item, rank (from 1), similar, score.

        Raises:
            DataError: an item was not trained on.
        """
        return self.ranker().similar(items, k)

    def ranker(self, correct: Part | None = None) -> Ranker:
        """All vectors, computed now, ready to rank many times; `correct` as in `recommend`."""
        trained = self._fitted()
        return Ranker(*self._vectors(correct), trained.train, trained.seen)

    def __repr__(self) -> str:
        parts = f"model={self.model!r}, loss={self.loss!r}, negatives={self.negatives!r}"
        return f"Recommender({parts}, seed={self.seed})" + (" (fitted)" if self._trained else "")

    def save(self, folder: str | Path) -> None:
        """Write the run folder: settings, metrics, history, model and ids; no pickle."""
        save_run(Path(folder), self._fitted(), self._fingerprint)

    @classmethod
    def load(cls, folder: str | Path) -> Recommender:
        """Read a run folder that `save` or `ssmrec train` wrote."""
        trained, fingerprint = load_run(Path(folder))
        return cls.of(trained, fingerprint)

    @classmethod
    def of(cls, trained: Trained, fingerprint: str = "") -> Recommender:
        """The recommender of a training that `train_run` did."""
        config = trained.config
        made = cls(
            config.model, config.loss, config.negatives,
            ranking=config.ranking.model_dump(), train=config.train.model_dump(),
            evaluation=config.evaluation.model_dump(), seed=config.seed,
        )  # fmt: skip
        made._trained, made._fingerprint = trained, fingerprint
        return made

    @property
    def config_(self) -> Any:
        """The complete, resolved settings."""
        return self._fitted().config

    @property
    def history_(self) -> list[dict[str, Any]]:
        """One record per epoch."""
        return self._fitted().history

    @property
    def metrics_(self) -> dict[str, Any]:
        """What was measured while fitting: validation metrics, chosen epoch, seconds."""
        return self._fitted().metrics

    @property
    def trained_(self) -> Trained:
        """Model, training pairs and settings in one object."""
        return self._fitted()

    def _fitted(self) -> Trained:
        if self._trained is None:
            raise RunError("this recommender is not fitted yet: call fit, or Recommender.load")
        return self._trained

    def _vectors(self, correct: Part | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        trained = self._fitted()
        similarity: Any = trained.config.ranking.similarity
        if correct is not None:
            return corrected_vectors(trained.model, trained.train, similarity, correct)
        return ranking_vectors(trained.model, similarity)


def _part(value: Part) -> dict[str, Any]:
    return {"name": value} if isinstance(value, str) else dict(value)


def _check_pairs(pairs: Any, name: str) -> None:
    if not isinstance(pairs, Interactions):
        raise DataError(
            f"{name} must be Interactions, not {type(pairs).__name__}: read it with ssmrec.load"
        )


def _same_ids(a: Interactions, b: Interactions) -> bool:
    return all(
        x is y or (x.ids.dtype == y.ids.dtype and x.ids.equals(y.ids))
        for x, y in ((a.users, b.users), (a.items, b.items))
    )


def _aligned(pairs: Interactions, like: Interactions) -> Interactions:
    """`pairs` over the vocabularies of `like`; pairs with ids it lacks are left out and told."""
    if pairs.users is like.users and pairs.items is like.items:
        return pairs
    frame = pairs.frame()
    user, item = like.users.encode(frame["user"]), like.items.encode(frame["item"])
    keep = (user >= 0) & (item >= 0)
    if not keep.all():
        logger.warning("%d of %d pairs have ids the model does not know", (~keep).sum(), len(keep))
    if not keep.any():
        raise DataError(
            f"none of the {len(keep)} pairs has a user and an item the model knows: "
            f"ids are {pairs.users.ids.dtype} here, {like.users.ids.dtype} in the model"
        )
    return Interactions.from_pairs(user[keep], item[keep], like.users, like.items)
