"""The pairs are read by one process of a machine, and held once for all of it."""

from __future__ import annotations

import numpy as np

from processes import read_together, shuffled_together
from ssmrec.data import prepare
from ssmrec.training.seeds import numpy_generator


def test_one_process_reads_and_all_have_the_split(pair):
    split = prepare("online-retail", seed=1)
    expected = (split.fingerprint, len(split.train) + len(split.valid or ()))
    for rank, (fingerprint, known, read, left) in enumerate(
        pair.run(read_together, "online-retail")
    ):
        assert (fingerprint, known) == expected
        assert read == (rank == 0) and left == []


def test_one_process_shuffles_and_all_see_the_order_of_one_process(pair):
    for count in (1000, 700):
        for rank, (orders, called, left) in enumerate(pair.run(shuffled_together, count, 3)):
            assert called == (3 if rank == 0 else 0) and left == []
            for epoch, order in enumerate(orders, 1):
                expected = np.arange(count, dtype=np.int32)
                numpy_generator(0, "shuffle", epoch).shuffle(expected)
                np.testing.assert_array_equal(order, expected)
                assert order.dtype == np.int32
