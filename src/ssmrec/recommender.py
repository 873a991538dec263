"""The Python interface: settings in, `fit`, then lists, metrics and a folder on disk."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
import torch

from ssmrec.config import merged, nearest
from ssmrec.data import Interactions, Split
from ssmrec.errors import ConfigError, DataError, RunError
from ssmrec.evaluation import Result, evaluate
from ssmrec.ranking import recommend_frame, top_k
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.reporting.progress import ProgressBars
from ssmrec.training import Listener, Trained, load_run, resolve, save_run, train_run

logger = logging.getLogger("ssmrec")

Unknown = Literal["error", "skip", "popular"]
PYTHON = "<python>"
"""The data source of a run that was trained from Python: its file, if any, is not known."""
Part = str | Mapping[str, Any]


class Recommender:
    """Trains one backbone with one loss and recommends.

    A part is its name, or a mapping with `name` and its settings, as in the configuration files:
    `Recommender("lightgcn", {"name": "ssm", "temperature": 0.14}, train={"epochs": 20})`.

    Args:
        model: mf, svdpp, lightgcn, or a name you added to `ssmrec.MODELS`.
        loss: ssm, softmax, bpr, bce, or a name you added to `ssmrec.LOSSES`.
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
        model: Part = "lightgcn",
        loss: Part = "ssm",
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
        self, train: Interactions, valid: Interactions | None = None, *, progress: bool = True
    ) -> Recommender:
        """Learn from `train`; `valid`, when given, chooses the epoch.

        Without `valid` the training runs for exactly `train["epochs"]` epochs (default 20).

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
                "model": _part(self.model),
                "loss": _part(self.loss),
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
        with ProgressBars() if progress else Listener() as listener:
            self._trained = train_run(resolve(values), split, listener)
        self._fingerprint = split.fingerprint
        return self

    def evaluate(self, test: Interactions) -> Result:
        """Full-ranking metrics on held-out pairs; all pairs known from `fit` are masked."""
        trained = self._fitted()
        _check_pairs(test, "test")
        users, items = self._vectors()
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
    ) -> pl.DataFrame:
        """The k best items for each user, best first.

        Args:
            users: external ids; None means all users with training pairs.
            k: length of the lists; shorter where fewer items are left.
            include_seen: also list items the user already has.
            unknown: what to do with users that were not trained on: `error`, `skip` (logged), or
                `popular`, the most popular items.

        Returns:
            Columns user, rank (from 1), item, score.

        Raises:
            DataError: unknown users under `unknown="error"`, or no list of ids.
            ConfigError: `k` or `unknown` is not one of the values above.
        """
        trained = self._fitted()
        if unknown not in get_args(Unknown):
            raise ConfigError(f"unknown={unknown!r}{nearest(unknown, get_args(Unknown))}")
        if not isinstance(k, int) or k < 1:
            raise ConfigError(f"k must be a whole number of at least 1, not {k!r}")
        train = trained.train
        wanted = (
            _series(users)
            if users is not None
            else train.users.ids.filter(pl.Series(train.user_degrees > 0))
        )
        index = train.users.encode(wanted)
        known = (index >= 0) & (train.user_degrees[np.maximum(index, 0)] > 0)
        if not known.all():
            _tell_unknown(wanted.filter(pl.Series(~known)), unknown)
        vectors, items = self._vectors()
        allowed = train.item_degrees > 0
        rows = index[known]
        lists = top_k(
            vectors[torch.from_numpy(rows.astype(np.int64)).to(vectors.device)], items, k,
            seen=[] if include_seen else [trained.seen], user_index=rows, allowed=allowed,
        )  # fmt: skip
        frame = recommend_frame(lists, wanted.filter(pl.Series(known)), train.items)
        if unknown == "popular" and not known.all():
            frame = pl.concat([frame, self._popular(wanted.filter(pl.Series(~known)), k)])
        return frame

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

    def _vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        trained = self._fitted()
        return ranking_vectors(trained.model, trained.config.ranking.similarity)  # type: ignore[arg-type]

    def _popular(self, users: pl.Series, k: int) -> pl.DataFrame:
        train = self._fitted().train
        k = min(k, int((train.item_degrees > 0).sum()))
        best = np.argsort(-train.item_degrees, kind="stable")[:k]
        count = len(users)
        return pl.DataFrame(
            {
                "user": users.gather(np.repeat(np.arange(count, dtype=np.uint32), k)),
                "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), count),
                "item": train.items.decode(np.tile(best, count)),
                "score": np.tile(train.item_degrees[best].astype(np.float32), count),
            }
        )


def _part(value: Part) -> dict[str, Any]:
    return {"name": value} if isinstance(value, str) else dict(value)


def _series(values: Iterable[Any]) -> pl.Series:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise DataError(f"users must be a list of ids, not the single value {values!r}")
    return values if isinstance(values, pl.Series) else pl.Series(list(values), strict=False)


def _tell_unknown(missing: pl.Series, policy: Unknown) -> None:
    names = ", ".join(repr(name) for name in missing.head(3).to_list())
    text = (
        f"{len(missing)} user(s) were not trained on: {names}{' ...' if len(missing) > 3 else ''}"
    )
    if policy == "error":
        raise DataError(f"{text}; choose unknown=skip or unknown=popular")
    logger.warning(
        "%s; %s", text, "left out" if policy == "skip" else "given the most popular items"
    )


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
