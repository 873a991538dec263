"""One seed gives every source of randomness its own generator, by name and epoch."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def numpy_generator(seed: int, name: str, epoch: int = 0) -> np.random.Generator:
    """The generator of one purpose (`shuffle`, `negatives`, `split`) in one epoch.

    It depends on nothing drawn before, so a resumed run goes on exactly as an unbroken one.
    """
    return np.random.default_rng([seed, zlib.crc32(name.encode()), epoch])


def torch_generator(seed: int, name: str, epoch: int | None = None) -> torch.Generator:
    """The torch generator of one purpose, such as `init`, in one epoch where it depends on that."""
    key = [seed, zlib.crc32(name.encode()), *([] if epoch is None else [epoch])]
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
