"""Why an item is recommended: which items of a user's history its score rests on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ssmrec.models import ScoringRows
from ssmrec.ranking import ItemRows
from ssmrec.serving.foldin import FoldIn

Array = np.ndarray

_NUMBERS = 1 << 24
"""Most scores, or items of histories, held at once (64 MB)."""


def effects(folding: FoldIn, items: Tensor, history: Array, wanted: Array) -> tuple[Array, Array]:
    """By how much the score of each wanted item falls if the user had not had one of his items.

    effect(i, j) = score(i | H) - score(i | H without j), where score(. | H) is that of a new user with
    the items H, by fold-in. It asks nothing of the model but to fold in, so it holds for all of them; for
    item-item models it is the weight of j in the score of i, for others what Hu et al. (ICDM 2008,
    section 5) get from the normal equations of a user, up to his new vector's length.

    Args:
        folding: of the model.
        items: ranking vectors of all items (n, d).
        history: (h,) distinct indices of the items the user has, at least one.
        wanted: (k,) indices of the items to explain.

    Returns:
        Scores with the whole history (k,), and effects (k, h), float32; a negative one lowers the score.
    """
    n, h = len(items), len(history)
    size = max(1, _NUMBERS // max(n, h))
    whole = _scores(folding, items, [history], wanted)
    rests = [
        _scores(folding, items, [np.delete(history, j) for j in part], wanted)
        for part in np.split(np.arange(h), range(size, h, size))
    ]
    return whole[0], (whole - np.concatenate(rests)).T


def _scores(folding: FoldIn, items: Tensor, histories: list[Array], wanted: Array) -> Array:
    """Scores (m, k) of the wanted items for users with these histories."""
    rows = folding.vectors(ItemRows.of(histories, len(items)))
    at = torch.from_numpy(wanted.astype(np.int64))
    if isinstance(rows, ScoringRows):
        return rows.scores_of(items, at).numpy()
    return (rows @ items[at].T).numpy()
