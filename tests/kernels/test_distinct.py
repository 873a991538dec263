"""Distinct ids against numpy."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmrec.kernels.distinct import distinct, distinct_reference


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**40) | st.integers(0, 30), max_size=60))
def test_equals_numpy_but_for_the_order(ids):
    values = np.array(ids, dtype=np.int64)
    found, at = distinct(values)
    assert sorted(found.tolist()) == distinct_reference(values)[0].tolist()
    assert (found[at] == values).all()
    first = [k for k, value in enumerate(ids) if value not in ids[:k]]
    assert found.tolist() == [ids[k] for k in first]


def test_ids_that_fall_into_one_slot():
    values = np.arange(2000, dtype=np.int64) * 2**33
    found, at = distinct(np.concatenate([values, values[::-1]]))
    assert (found == values).all()
    assert (at[2000:] == np.arange(2000)[::-1]).all()
