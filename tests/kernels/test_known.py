"""Known items as bits against the dense matrix they stand for."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from conftest import from_mask
from ssmrec.kernels import known
from ssmrec.kernels.known import KnownItems, fits

CPU = torch.device("cpu")


@given(st.data())
def test_answers_are_those_of_the_matrix(data):
    # Up to 70 items: three words, the last of them not full
    shape = data.draw(array_shapes(min_dims=2, max_dims=2, max_side=70))
    mask = data.draw(arrays(bool, shape))
    users, items = (
        data.draw(st.lists(st.integers(0, side - 1), max_size=9)) for side in mask.shape
    )
    table = KnownItems(from_mask(mask), CPU)
    found = table.mask(*(torch.tensor(ids, dtype=torch.int64) for ids in (users, items)))
    expected = mask[np.array(users, dtype=int)][:, np.array(items, dtype=int)]
    assert found.dtype == torch.bool
    assert np.array_equal(found.numpy(), expected)


def test_every_bit_of_a_word_stands_alone():
    mask = np.eye(64, dtype=bool)
    found = KnownItems(from_mask(mask), CPU).mask(torch.arange(64), torch.arange(64))
    assert np.array_equal(found.numpy(), mask)


@pytest.mark.parametrize(
    ("free", "fit"), [(None, True), (8 * 4 * 3 * 2, True), (8 * 4 * 3 * 2 - 1, False)]
)
def test_a_table_takes_its_part_of_the_memory(monkeypatch, free, fit):
    monkeypatch.setattr(known, "free_memory", lambda device: free)
    assert fits(from_mask(np.ones((3, 33), dtype=bool)), CPU) is fit
