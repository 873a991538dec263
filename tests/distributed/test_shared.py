"""The pairs are read by one process of a machine, and held once for all of it."""

from __future__ import annotations

from processes import read_together
from ssmrec.data import prepare


def test_one_process_reads_and_all_have_the_split(pair):
    split = prepare("online-retail", seed=1)
    expected = (split.fingerprint, len(split.train) + len(split.valid or ()))
    for rank, (fingerprint, known, read, left) in enumerate(
        pair.run(read_together, "online-retail")
    ):
        assert (fingerprint, known) == expected
        assert read == (rank == 0) and left == []
