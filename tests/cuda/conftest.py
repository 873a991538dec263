"""Data of the tests on a device."""

from __future__ import annotations

import numpy as np
import pytest

from ssmrec.data import Split, synthetic


@pytest.fixture(scope="session")
def pairs() -> Split:
    """300 users, 208 items; 4096 pairs to train on, 1024 for validation and 1024 for test."""
    everything = synthetic(300, 208, 6144, seed=1)
    part = np.repeat([0, 1, 2], [4096, 1024, 1024])
    np.random.default_rng(0).shuffle(part)
    return Split(*(everything.take(part == number) for number in range(3)), "given")
