"""Top-K lists as a table with external ids."""

from __future__ import annotations

import numpy as np
import polars as pl

from ssmrec.data import Vocabulary
from ssmrec.errors import DataError
from ssmrec.ranking.topk import TopK


def recommend_frame(lists: TopK, users: pl.Series, items: Vocabulary) -> pl.DataFrame:
    """One row per recommendation; a short list stays short, padding gives no row.

    Args:
        lists: m ranked lists.
        users: (m,) external user ids, in the order of the lists.
        items: the item vocabulary.

    Returns:
        Columns user (external id), rank (from 1), item (external id) and score; users in the
        order given.

    Raises:
        DataError: the number of users and of lists differ.
    """
    if len(users) != len(lists.ids):
        raise DataError(f"{len(users)} users for {len(lists.ids)} lists")
    row, column = np.nonzero(lists.ids >= 0)
    return pl.DataFrame(
        {
            "user": users.gather(row.astype(np.uint32)),
            "rank": (column + 1).astype(np.int32),
            "item": items.decode(lists.ids[row, column]),
            "score": lists.scores[row, column],
        }
    )
