"""The Python interface: settings in, `fit`, then lists, metrics and a folder on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from ssmrec.blending import train_best
from ssmrec.blending.blend import blend
from ssmrec.data import Interactions, Split
from ssmrec.data.align import check_pairs, widened
from ssmrec.errors import RunError
from ssmrec.evaluation import Result, evaluate
from ssmrec.kernels.threads import refuse_lost
from ssmrec.models.blend import alike_columns
from ssmrec.ranking import Ranker, Unknown, pair_scores
from ssmrec.ranking.corrections import corrected_vectors
from ssmrec.ranking.ids import like
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.reporting.listeners import Listeners
from ssmrec.reporting.progress import ProgressBars
from ssmrec.training import Listener, Trained, asked, load_run, resolve, save_run
from ssmrec.training.ahead import refuse_early
from ssmrec.training.python import NOTHING, kept, split_of, undisturbed
from ssmrec.training.run import holds, refuse_foreign
from ssmrec.updating.grown import grown
from ssmrec.updating.update import fewer_epochs, update_run

PYTHON = "<python>"
"""The data source of a run that was trained from Python: its file, if any, is not known."""
Part = str | Mapping[str, Any]


class Recommender:
    """Trains one backbone with one loss and recommends.

    A part is its name, or a mapping with `name` and its settings, as in the configuration files:
    `Recommender("lightgcn", {"name": "ssm", "temperature": 0.14}, train={"epochs": 20})`.

    Args:
        model: a name of `ssmrec.MODELS`: mf, svdpp, lightgcn ..., or one you added to it. None is
            lightgcn; with train={"budget": seconds} and validation pairs to choose by, the best blend
            of popular, ease, svd and lightgcn in that time.
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
        copies = map(asked.own_copy, (model, loss, negatives, ranking, train, evaluation))
        self.model, self.loss, self.negatives, self.ranking, self.train, self.evaluation = copies
        self.seed = seed
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
            DataError: train and valid have different ids, or pairs in common.
            RunError: training diverged.
            KeyboardInterrupt: Ctrl-C. It says what is kept: the best model so far, which this is then
                fitted with, or nothing where no epoch is through.
        """
        split = split_of(train, valid)
        parts = asked.parts_of(self)
        config = resolve(asked.settings_asked(parts, self.seed, PYTHON, valid is not None))
        if self._trained is None:  # those of a fitted one were told, or are not the caller's own
            asked.tell_idle(config, parts, train)
        with (
            undisturbed(),
            Listeners([*([ProgressBars()] if progress else []), *listeners]) as ears,
        ):
            refuse_early(config)
            ears.begin(config)
            trained = train_best(config, split, ears)
            ears.finish(trained.metrics)
        broken_off = trained.metrics["stopped"] == "interrupted"
        if not broken_off or kept(trained):
            self._trained, self._fingerprint = trained, split.fingerprint
        if broken_off:
            raise KeyboardInterrupt(kept(trained) or NOTHING)
        return self

    def blend(
        self,
        *others: Recommender,
        valid: Interactions | None = None,
        weights: Sequence[float] | None = None,
        refit: bool = False,
        progress: bool = True,
    ) -> Recommender:
        """One recommender of this and others, fitted to the same pairs; often better than the best of them.

        Scores are standardised for each user and added up, with the weights that rank the pairs of `valid`
        best, or those given. `refit` then fits all of them again, `valid` included. See docs/models.md.

        Raises:
            ConfigError: neither weights nor validation pairs, or recommenders that cannot be blended.
            DataError: they were fitted to different pairs, or `valid` has no id of theirs.
            KeyboardInterrupt: Ctrl-C; nothing is kept.
        """
        runs = [one._fitted() for one in (self, *others)]
        split = Split(runs[0].train, asked.held_out_of(valid, runs[0].train), None, "given")
        with undisturbed(), ProgressBars() if progress else Listener() as listener:
            trained = blend(runs, split, weights, refit, listener)
        return Recommender.of(trained, split.fingerprint)

    def update(
        self, new: Interactions, *, epochs: int | None = None, progress: bool = True
    ) -> Recommender:
        """Another recommender, trained on from this one with the pairs of `new` among its pairs.

        Users and items are matched by id; a tenth of the new pairs chooses the epoch where validation
        pairs did in `fit`. `epochs` is a quarter of those of `fit` if None. See docs/update.md.

        Raises:
            DataError: no pair is new, or none has a user or an item that is known.
            RunError: training diverged.
            KeyboardInterrupt: Ctrl-C; nothing is kept, and this one is as it was.
        """
        old = self._fitted()
        check_pairs(new, "new")
        config = asked.for_epochs(old.config, fewer_epochs(old) if epochs is None else epochs)
        data, begun = grown(old, new, config), {"data_fingerprint": self._fingerprint}
        with undisturbed(), ProgressBars() if progress else Listener() as listener:
            trained = update_run(old, data, config, begun, listener)
        if trained.metrics["stopped"] == "interrupted":
            raise KeyboardInterrupt(NOTHING)
        return Recommender.of(trained, data.split.fingerprint)

    def evaluate(self, test: Interactions, correct: Part | None = None) -> Result:
        """Full-ranking metrics on held-out pairs; all pairs known from `fit` are masked.

        Pairs are matched by id. An item that the model does not know is one that it misses, and a user
        whom it does not know is left out, as with the split of `prepare`.
        `correct` is a correction of popularity after training, as in `recommend`.
        """
        trained = self._fitted()
        check_pairs(test, "test")
        users, items = self._vectors(correct)
        return evaluate(
            users, items, widened(test, trained.train), [trained.train, trained.seen],
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
        candidates: Any = None,
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
            candidates: a polars or pandas frame with columns user and item: a user's list holds his
                candidates only.
            correct: a correction of popularity after training: `tten`, `edge`, `dap`, with settings
                as in `edge:strength=0.5` or {"name": "edge", "strength": 0.5}.

        Returns:
            Columns user, rank (from 1), item, score; users as the model's ids are where they can be
            written so, else as asked for.

        Raises:
            DataError: unknown users under `unknown="error"`, no list of ids, or filters of items
                that were never trained on.
            ConfigError: `k` or `unknown` is not one of the values above.
        """
        ranker = self.ranker(correct)
        choice = ranker.choice(
            k, include_seen=include_seen, allow=allow, deny=deny, candidates=candidates
        )
        frame = ranker.recommend(users, choice, unknown)
        return frame.with_columns(like(frame["user"], ranker.train.users))

    def scores(self, users: Iterable[Any], items: Iterable[Any]) -> np.ndarray:
        """The score of each pair of `users` (n,) and `items` (n,), external ids: float32 (n,).

        That of `recommend`; NaN for a pair whose user or item was not trained on, which is told.

        Raises:
            DataError: they are not equally many, or no lists of ids.
        """
        return pair_scores(self.ranker(), users, items)

    def similar(self, items: Iterable[Any], k: int = 10) -> pl.DataFrame:
        """The k items most like each of `items`: columns item, rank (from 1), similar, score.

        Raises:
            DataError: an item was not trained on.
        """
        frame = self.ranker().similar(items, k)
        return frame.with_columns(like(frame["item"], self._fitted().train.items))

    def ranker(self, correct: Part | None = None) -> Ranker:
        """All vectors, computed now, ready to rank many times; `correct` as in `recommend`."""
        trained = self._fitted()
        return Ranker(
            *self._vectors(correct), trained.train, trained.seen, alike_columns(trained.model)
        )

    def __repr__(self) -> str:
        parts = f"model={self.model!r}, loss={self.loss!r}, negatives={self.negatives!r}"
        return f"Recommender({parts}, seed={self.seed})" + (" (fitted)" if self._trained else "")

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the run folder: settings, metrics, history, model and ids; no pickle.

        Raises:
            RunError: the folder cannot be written, or holds a run, or files of others by the names of
                its files, and `overwrite` is not set.
        """
        trained = self._fitted()
        if not str(folder):
            raise RunError("the folder to save to is empty: name one, such as runs/shop")
        remedy = "choose another folder, or overwrite=True"
        if (held := holds(Path(folder))) and not overwrite:
            raise RunError(f"{folder}: holds {held}; {remedy}")
        if not overwrite:
            refuse_foreign(Path(folder), remedy)
        save_run(Path(folder), trained, self._fingerprint)

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
        refuse_lost()
        similarity: Any = trained.config.ranking.similarity
        if correct is None:
            return ranking_vectors(trained.model, similarity)
        return corrected_vectors(trained.model, trained.train, similarity, correct)
