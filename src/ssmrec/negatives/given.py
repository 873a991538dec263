"""Negatives that the user names: a file of user, item pairs, such as skips or dislikes."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from ssmrec.config import Config
from ssmrec.data import DataConfig, Interactions, load
from ssmrec.data.named import files_of
from ssmrec.errors import ConfigError, DataError
from ssmrec.negatives.base import Batch, Negatives, Sampler
from ssmrec.negatives.drawn import Uniform, UniformConfig

logger = logging.getLogger("ssmrec")


class GivenConfig(Config):
    """Attributes:
    path: file or folder of user, item pairs, in any form that training data may have.
    user: column of the user in that file; None finds it by its usual names.
    item: column of the item, likewise.
    n: negatives of each row, drawn with replacement from those its user was given.
    others: `uniform`: a user without given negatives gets uniform ones; `none`: he gets none.
    """

    path: str = ""
    user: str | None = None
    item: str | None = None
    n: int = Field(default=4, ge=1)
    others: Literal["uniform", "none"] = "uniform"


class Given(Sampler):
    """Items each user is known not to want. Pairs that are also in train do not count."""

    Config = GivenConfig

    def __init__(self, config: Any, train: Interactions) -> None:
        super().__init__(config, train)
        self.check(config)
        self.given = _unwanted(_source(config), train)
        self.uniform = Uniform(UniformConfig(n=config.n, shared=False, full_users="skip"), train)

    @classmethod
    def is_debiased(cls, config: Any) -> bool:
        return True

    @classmethod
    def check(cls, config: Any) -> None:
        if not config.path:
            raise ConfigError("negatives=given needs negatives.path, a file of user, item pairs")
        files_of(_source(config))

    def draw(self, batch: Batch, generator: np.random.Generator) -> Negatives:
        spare = self.uniform.draw(batch, generator)
        assert spare.ids is not None
        users = batch.users.numpy()
        count = self.given.user_degrees[users][:, None]
        place = generator.random((len(batch), self.config.n)) * count
        at = self.given.indptr[users][:, None] + np.minimum(place, count - 1).astype(np.int64)
        none = np.broadcast_to(count == 0, at.shape)
        own = self.given.indices[np.where(none, 0, at)].astype(np.int64)
        ids = np.where(none, spare.ids.numpy(), own)
        dead = none.copy()
        if self.config.others == "uniform":
            failed = spare.mask(at.shape)
            dead &= np.zeros_like(none) if failed is None else failed.numpy()
        masked = torch.from_numpy(np.stack(np.nonzero(dead))) if dead.any() else None
        return Negatives(torch.from_numpy(ids), None, masked)


def _source(config: GivenConfig) -> DataConfig:
    return DataConfig(source=config.path, user=config.user, item=config.item)


def _unwanted(source: DataConfig, train: Interactions) -> Interactions:
    """The pairs of the file that are in the vocabularies of `train` and not in `train`.

    Raises:
        DataError: no pair is left.
    """
    frame, path = load(source.source, source).frame(), source.source
    user, item = train.users.encode(frame["user"]), train.items.encode(frame["item"])
    known = (user >= 0) & (item >= 0)
    key = user[known].astype(np.int64) * train.n_items + item[known]
    fresh = ~np.isin(key, train.rows.astype(np.int64) * train.n_items + train.indices)
    logger.info(
        "%s: %d of %d pairs are negatives; %d have ids that are not in train, %d are in train",
        path, fresh.sum(), len(frame), (~known).sum(), (~fresh).sum(),
    )  # fmt: skip
    if not fresh.any():
        raise DataError(
            f"{path}: no pair has a user and an item of the training data and is not itself in it; "
            "check that ids match"
        )
    pairs = np.unique(key[fresh])  # 7 and 07 are one id
    return Interactions.from_pairs(*np.divmod(pairs, train.n_items), train.users, train.items)
