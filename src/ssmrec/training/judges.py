"""Whose validation pairs choose: of many users, some are enough."""

from __future__ import annotations

import numpy as np

from ssmrec.data import Interactions
from ssmrec.training.config import RunConfig
from ssmrec.training.seeds import numpy_generator


def judges(config: RunConfig, valid: Interactions) -> Interactions:
    """The pairs of `train.valid_users` users at most; the same ones at every epoch and for every model."""
    return some_users(valid, config.train.valid_users, config.seed)


def told_judges(config: RunConfig, valid: Interactions) -> str:
    """That validation looks at some of the users only; nothing where it looks at all."""
    users, most = int((valid.user_degrees > 0).sum()), config.train.valid_users
    return f"validation looks at {most:,} of {users:,} users (train.valid_users)" * (most < users)


def some_users(pairs: Interactions, most: int, seed: int) -> Interactions:
    """The pairs of `most` of the users who have any, drawn by the seed; of all where they are no more."""
    users = np.flatnonzero(pairs.user_degrees)
    if len(users) <= most:
        return pairs
    chosen = np.zeros(pairs.n_users, dtype=bool)
    chosen[numpy_generator(seed, "judges").choice(users, most, replace=False)] = True
    return pairs.take(chosen[pairs.rows])
