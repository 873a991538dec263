"""Items that come in blocks give the lists of items that lie in one table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmrec.errors import DataError
from ssmrec.ranking import topk
from ssmrec.ranking.topk import ItemRows, top_k


class Blocks:
    """A table in blocks of `size` rows."""

    def __init__(self, table: torch.Tensor, size: int) -> None:
        self.table, self.size, self.shape = table, size, table.shape

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self):
        return iter(self.table.split(self.size))


def some_rows(mask: np.ndarray) -> ItemRows:
    return ItemRows.of([np.flatnonzero(row) for row in mask], mask.shape[1])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    m=st.integers(0, 40),
    n=st.integers(1, 60),
    k=st.integers(1, 30),
    size=st.integers(1, 61),
    limited=st.booleans(),
)
def test_equal_lists_with_ties_seen_and_candidates(seed, m, n, k, size, limited) -> None:
    """Whole numbers, so that many scores are equal and all are exact."""
    g = np.random.default_rng(seed)
    users, items = (torch.from_numpy(g.integers(-2, 3, (s, 3)).astype(np.float32)) for s in (m, n))
    words = {
        "seen": [some_rows(g.random((m, n)) < share) for share in (0.4, 0.1)],
        "allowed": g.random(n) < 0.7,
        "only": some_rows(g.random((m, n)) < 0.5) if limited else None,
    }
    whole, blocks = (top_k(users, x, k, **words) for x in (items, Blocks(items, size)))
    np.testing.assert_array_equal(blocks.ids, whole.ids)
    np.testing.assert_array_equal(blocks.scores, whole.scores)


@pytest.mark.parametrize("d", [8, 64, 100])
def test_equal_to_the_last_bit(d) -> None:
    g = torch.Generator().manual_seed(3)
    users, items = torch.randn(123, d, generator=g), torch.randn(5011, d, generator=g)
    whole, done = top_k(users, items, 20), []
    blocks = top_k(users, Blocks(items, 1024), 20, progress=lambda at, _: done.append(at))
    np.testing.assert_array_equal(blocks.ids, whole.ids)
    np.testing.assert_array_equal(blocks.scores, whole.scores)
    assert done == sorted(done) and done[-1] == 123


def test_a_table_of_which_few_users_are_more_than_a_tile_is_cut(monkeypatch) -> None:
    g = torch.Generator().manual_seed(4)
    users, items = torch.randn(50, 16, generator=g), torch.randn(3000, 16, generator=g)
    whole, sizes = top_k(users, items, 10), []
    monkeypatch.setattr(topk, "TILE_BYTES", 4 * 50 * 512)
    scores = topk.tile_scores
    monkeypatch.setattr(topk, "tile_scores", lambda u, i: sizes.append(len(i)) or scores(u, i))
    cut = top_k(users, items, 10)
    np.testing.assert_array_equal(cut.ids, whole.ids)
    np.testing.assert_array_equal(cut.scores, whole.scores)
    assert max(sizes) == 512 and set(sizes) == {512, 3000 % 512}


def test_nan_in_a_late_block_is_an_error() -> None:
    items = torch.ones(10, 2)
    items[9] = torch.nan
    with pytest.raises(DataError, match="not a number"):
        top_k(torch.ones(3, 2), Blocks(items, 4), 2)
