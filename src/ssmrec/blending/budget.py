"""Seconds to train and no model named: popularity, EASE, SVD, LightGCN in the time left, and their blend."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from ssmrec.blending.blend import blend, refitted
from ssmrec.blending.estimate import epoch_seconds, least_epoch_seconds, solution_seconds
from ssmrec.blending.weights import Weights, choose_weights
from ssmrec.data import Split, synthetic
from ssmrec.data.split import day_of
from ssmrec.errors import RunError
from ssmrec.models import Blend
from ssmrec.models.start import singular_factors
from ssmrec.training.checkpoint import Checkpoint
from ssmrec.training.config import RankingConfig, RunConfig, label, resolve
from ssmrec.training.diverged import DivergedError
from ssmrec.training.judges import judges, some_users, told_judges
from ssmrec.training.listener import Listener
from ssmrec.training.protocols import Trained, tested, train_run

HALF_LIVES = (4, 16, 64)
"""Parts of the time that the training pairs span."""

SVD_DIMS = (32, 64, 128, 256, 512)
EASE_L2 = (100.0, 300.0, 1000.0)
LIGHTGCN_EPOCHS = {256: 4, 128: 4, 64: 2}
"""By dimensions, the epochs that must fit: it passes its spectral start within two of them, and wider vectors
are better from the fourth on."""

_JUDGES = 10_000
"""Most users whose validation pairs choose the weights of the blend: each weight ranks for all of them."""

_MATRIX = 2**30
"""Most bytes of an item-item matrix, which is also what a run folder with EASE takes: 16,384 items."""

_SHARE = 0.5
"""Most of the time left that one solution of EASE may take."""

_DOUBLING = 3.0
"""What twice the dimensions cost: between 2 for the products with the graph and 4 for the bases."""


def train_best(
    config: RunConfig,
    split: Split,
    listener: Listener | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """As `train_run`; with `train.choose_model`, of the best model that the budget has time for.

    Popularity comes first, with ever shorter half-lives while its validation metric rises. Where items are
    few, EASE is solved with l2 = 100, 300, ... likewise, as long as there is time; then SVD with 32, 64, ...
    dimensions. LightGCN then trains from the spectral start for the seconds left, with the most of 256, 128 or
    64 dimensions of which enough epochs fit into them. The best of each kind are blended with weights chosen
    on validation (`choose_weights`).

    The best of all by `train.metric` on validation is returned, mostly that blend; `metrics["candidates"]`
    tells of all. Under the protocol `refit` it learns anew from train and validation together, in a time
    that is not part of the budget. Test is looked at for that one only. Ctrl-C ends the search: the best
    so far is returned.
    """
    if not config.train.choose_model or config.train.budget is None:
        return train_run(config, split, listener, checkpoint)
    search = _Search(config, replace(split, test=None), listener or Listener())
    if split.valid is not None and (told := told_judges(config, split.valid)):
        search.listener.note(told)
    try:
        search.solve_popular()
        search.solve_ease()
        search.solve_svd()
        search.train(checkpoint)
        search.blend()
        search.refit()
    except KeyboardInterrupt:
        if search.found is None:
            raise
        search.interrupted = True
    return tested(search.best(), split.test, search.listener)


class _Search:
    """The models tried within one budget. `split` has no test part."""

    def __init__(self, config: RunConfig, split: Split, listener: Listener) -> None:
        self.config, self.split, self.listener = config, split, listener
        self.left = config.train.budget or 0.0
        self.found: Trained | None = None
        self.kinds: dict[str, Trained] = {}  # the best of each model
        self.weights: Weights = {}  # of them, in the blend
        self.candidates: list[dict[str, Any]] = []
        self.seconds = {"train": 0.0, "eval": 0.0}
        self.interrupted = False
        self.beside = 0.0  # seconds of loading and measuring

    def solve_popular(self) -> None:
        """What everybody takes, with ever shorter half-lives, which takes next to no time."""
        times, half_lives = self.split.train.timestamps, [None]
        days = 0.0 if times is None else float(times.max() - times.min()) / day_of(times)
        if days > 0:
            half_lives += [float(f"{days / part:.3g}") for part in HALF_LIVES]
        self._solve_while_rising([{"name": "popular", "half_life": days} for days in half_lives])

    def solve_ease(self) -> None:
        """EASE with ever larger l2, where one solution is cheap."""
        train = self.split.train
        if 4 * train.n_items**2 > _MATRIX:
            return self.listener.note(
                f"ease is left out: {train.n_items:,} items are too many for it"
            )
        start = time.perf_counter()
        needed = solution_seconds(train)
        self._spend(start)
        if needed > _SHARE * self.left:
            return self.listener.note(
                f"ease is left out: it would take some {needed:.1f} s, more than half of the "
                f"{max(self.left, 0.0):.1f} s of the budget that are left"
            )
        return self._solve_while_rising(
            [{"name": "ease", "l2": l2} for l2 in EASE_L2],
            enough=lambda _, took: took > _SHARE * self.left,
        )

    def solve_svd(self) -> None:
        """SVD with ever more dimensions, at least one."""
        start = time.perf_counter()
        singular_factors(synthetic(50, 40, 400), 8, torch.Generator())  # loads compiled code
        self._spend(start)
        full = min(self.split.train.n_users, self.split.train.n_items)
        self._solve_while_rising(
            [{"name": "svd", "dim": dim} for dim in SVD_DIMS],
            enough=lambda model, took: model["dim"] >= full or _DOUBLING * took > self.left,
        )

    def _solve_while_rising(
        self,
        models: Sequence[dict[str, Any]],
        enough: Callable[[dict[str, Any], float], bool] = lambda *_: False,
    ) -> None:
        """One after the other, until validation no longer rises, memory runs out, or one with the seconds it
        took was `enough`."""
        last = -math.inf
        for model in models:
            trained = self._solved(model)
            if trained is None or self._value(trained) <= last:
                return
            last = self._value(trained)
            if enough(model, trained.metrics["seconds"]["train"]):
                return

    def _solved(self, model: dict[str, Any]) -> Trained | None:
        """The closed form, which has become one of the candidates; None where memory ran out."""
        try:  # a budget would only be warned of: a closed form cannot stop half-way
            trained = train_run(self._with(model, budget=None), self.split)
        except RunError as error:
            return self._give_up(error)
        self._keep(replace(trained, config=self._with(model)))
        return trained

    def train(self, checkpoint: Checkpoint | None) -> None:
        """LightGCN in the time left, if there is enough; a checkpoint's goes on with its settings."""
        try:
            begun = (checkpoint and checkpoint.model) or self._affordable()
            if begun is None:
                return
            if checkpoint is not None:
                checkpoint.settings["model"] = begun
            config = self._with(begun, budget=max(self.left, 1e-3))
            trained = train_run(config, self.split, self.listener, checkpoint)
        except (DivergedError, MemoryError, torch.OutOfMemoryError) as error:
            return self._give_up(error)
        self.interrupted = trained.metrics["stopped"] == "interrupted"
        if trained.metrics["epochs"]:
            self._keep(trained)

    def blend(self) -> None:
        """The best of each kind together, where validation likes that better than one alone."""
        runs = [*self.kinds.values()]
        if len(runs) < 2 or self.interrupted:
            return
        assert self.split.valid is not None
        # Some of those who judged the models, so that nothing is chosen by others.
        some = some_users(judges(self.config, self.split.valid), _JUDGES, self.config.seed)
        judged = replace(self.split, valid=some)
        start = time.perf_counter()
        try:
            names = [_named(run) for run in runs]
            self.weights = choose_weights(runs, judged, self.listener, names)
            self.seconds["eval"] += time.perf_counter() - start
            if len(self.weights) > 1:
                self._compare(self._blended(refit=False), 0.0)
        except (MemoryError, torch.OutOfMemoryError) as error:
            self._give_up(error)

    def _used(self) -> list[Trained]:
        """The models of the blend."""
        runs = [*self.kinds.values()]
        return [runs[number] for number in self.weights]

    def _blended(self, refit: bool) -> Trained:
        weights = [*self.weights.values()]
        return blend(self._used(), self.split, weights, refit, self.listener)

    def refit(self) -> None:
        """The best one anew from all pairs, where the protocol wants that."""
        if self.config.train.protocol != "refit" or self.found is None or self.interrupted:
            return
        self.listener.note(f"{_named(self.found)}: again, from train and validation together")
        if isinstance(self.found.model, Blend):
            before, self.found = self._used(), self._blended(refit=True)
        else:
            before, self.found = [self.found], refitted(self.found, self.split, self.listener)
        for part in self.seconds:  # those of a refit hold those of the choice, which are counted
            counted = sum(run.metrics["seconds"][part] for run in before)
            self.seconds[part] += self.found.metrics["seconds"][part] - counted

    def _spend(self, start: float) -> None:
        """What was done since `start` counts, but for no candidate."""
        took = time.perf_counter() - start
        self.left -= took
        self.beside += took

    def _give_up(self, error: Exception) -> None:
        told = str(error).partition("\n")[0] or "out of memory"
        self.listener.note(f"{told}; going on with what was solved before")

    def best(self) -> Trained:
        """The best one, with the facts of all."""
        assert self.found is not None
        best, name, count = self.found, self.config.train.metric, len(self.candidates)
        self.listener.note(f"the best of {count} by {name} on validation: {_named(best)}")
        more: dict[str, Any] = {
            "candidates": self.candidates, "selected_on": "valid",
            "seconds": {**self.seconds, "measuring": self.beside},
        }  # fmt: skip
        if self.interrupted:
            more["stopped"] = "interrupted"
        return replace(best, metrics={**best.metrics, **more})

    def _affordable(self) -> dict[str, Any] | None:
        """LightGCN with the most dimensions of which enough epochs fit into the time left, if any do."""
        needed = epochs = 0.0
        for dim, epochs in LIGHTGCN_EPOCHS.items():
            if self.left <= 0:  # to measure takes time as well
                break
            start = time.perf_counter()
            model = {"name": "lightgcn", "dim": dim, "init": "spectral"}
            asked, train = self._with(model), self.split.train
            needed = epochs * least_epoch_seconds(asked, train)
            if needed <= self.left:
                needed = epochs * epoch_seconds(asked, train)
            self._spend(start)
            if needed <= self.left:
                return model
        told = f"{epochs} epochs would take {needed:.1f} s or more, and " if needed else ""
        self.listener.note(
            f"lightgcn is left out: {told}{max(self.left, 0.0):.1f} s of the budget are left (loading compiled "
            f"code and measuring what fits took {self.beside:.1f} s)"
        )
        return None

    def _keep(self, trained: Trained) -> None:
        for part in self.seconds:
            self.seconds[part] += trained.metrics["seconds"][part]
        took = trained.metrics["seconds"]["train"]
        self.left -= took
        kind = trained.config.model["name"]
        if kind not in self.kinds or self._value(trained) > self._value(self.kinds[kind]):
            self.kinds[kind] = trained
        self._compare(trained, took)

    def _compare(self, trained: Trained, took: float) -> None:
        """One more candidate; the best one is `found`."""
        name, value = self.config.train.metric, self._value(trained)
        self.candidates.append(
            {"model": label(trained.config), **_tried(trained), f"valid {name}": value, "seconds": took}
        )  # fmt: skip
        if self.found is None or value > self._value(self.found):
            self.found = trained
        seconds = f", in {took:.1f} s" if took else ""
        self.listener.note(f"{_named(trained)}: {name} {value:.4f} on validation{seconds}")

    def _value(self, trained: Trained) -> float:
        return trained.metrics["valid"][self.config.train.metric]

    def _with(self, model: dict[str, Any], **train: Any) -> RunConfig:
        """The settings with a model, and values of training, of its own."""
        own = {"choose_model": False, "protocol": "valid", **train}
        settings = self.config.train.model_copy(update=own)
        changed = {"model": model, "train": settings, "ranking": RankingConfig()}
        return resolve(self.config.model_copy(update=changed))


def _tried(trained: Trained) -> dict[str, Any]:
    """The setting that is tried, and its value: dimensions, l2 or half-life; none of a blend."""
    model = trained.config.model
    keys = ("dim", "l2", "half_life")
    return {key: model[key] for key in keys if model.get(key) is not None}


def _named(trained: Trained) -> str:
    model = trained.config.model
    told = {
        "dim": "with {:d} dimensions",
        "l2": "with l2 {:g}",
        "half_life": "by a half-life of {:g} days",
    }
    said = [told[key].format(value) for key, value in _tried(trained).items()]
    return " ".join([label(trained.config) if model["name"] == "blend" else model["name"], *said])
