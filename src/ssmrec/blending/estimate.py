"""Seconds that a model will take on this machine, measured in a moment."""

from __future__ import annotations

import math
import time
from statistics import median

import numpy as np
import torch

from ssmrec.data import Interactions
from ssmrec.training.ahead import without_start
from ssmrec.training.config import RunConfig
from ssmrec.training.device import pick_device
from ssmrec.training.loop import Trainer
from ssmrec.training.seeds import numpy_generator

_PAIR = 2e-9
"""Seconds to count one pair of items in a history, on one thread."""

_STEPS = 6
_COPIED = 1 << 24
"""Numbers that are moved to find out how fast this machine moves them: 64 MB, more than a cache holds."""


def solution_seconds(train: Interactions) -> float:
    """What EASE takes, by the time of a product of matrices and the number of pairs of items in histories."""
    size, took = 2048, []
    matrix = torch.ones(size, size)
    for _ in range(3):  # the first one starts threads, others may be disturbed
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        took.append(time.perf_counter() - start)
    # A product takes 2 size^3 steps, an inverse n^3, which are done a little slower.
    inverse = 0.6 * min(took) * (train.n_items / size) ** 3
    pairs = float(np.square(train.user_degrees.astype(np.float64)).sum())
    return inverse + _PAIR * pairs


def least_epoch_seconds(config: RunConfig, train: Interactions) -> float:
    """What an epoch takes at least, since each step of Adam moves the tables; found in some milliseconds.

    Where this is too long already, there is no need to build a graph and to measure a step, which takes minutes
    on millions of nodes.
    """
    took, part = [], torch.zeros(_COPIED, device=pick_device(config.train.device))
    for _ in range(4):
        start = time.perf_counter()
        part.add_(1.0)[0].item()  # waits for a GPU; reads and writes all
        took.append(time.perf_counter() - start)
    table = (train.n_users + train.n_items) * config.model["dim"]
    steps = math.ceil(len(train) / config.train.batch_size)
    # The parameters, gradient and both moments are read, and all but the gradient are written.
    return steps * table * 3.5 * min(took) / _COPIED


def epoch_seconds(config: RunConfig, train: Interactions) -> float:
    """What an epoch takes, by the median of a few steps; compilation and Adam's first step left out."""
    trainer, size = Trainer(without_start(config), train, 1), config.train.batch_size
    draws = numpy_generator(config.seed, "budget")
    took = []
    for _ in range(_STEPS):
        chosen = draws.integers(len(train), size=min(size, len(train)))
        batch = trainer.batch_at(chosen)
        start = time.perf_counter()
        trainer.step(batch, draws).item()  # waits for a GPU to be done with the step
        took.append(time.perf_counter() - start)
    return median(took[1:]) * math.ceil(len(train) / size)
