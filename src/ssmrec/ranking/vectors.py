"""The vectors that rank: those of the backbone, prepared for the ranking similarity."""

from __future__ import annotations

import torch
from torch import Tensor

from ssmrec.errors import ConfigError
from ssmrec.losses import Similarity, prepare
from ssmrec.models import Backbone, ScoringRows


@torch.no_grad()
def ranking_vectors(model: Backbone, similarity: Similarity) -> tuple[Tensor, Tensor]:
    """User (m, d) and item (n, d) vectors whose dot product is the ranking similarity.

    An item-item model gives `ScoringRows` (m, n) in the place of user vectors.

    Raises:
        ConfigError: `cosine` for an item-item model, whose scores are no inner products of vectors.
    """
    vectors = model.vectors()
    if isinstance(vectors.users, ScoringRows):
        if similarity == "cosine":
            raise ConfigError(
                "an item-item model, or a blend with one, ranks by its own scores: set similarity=dot"
            )
        return vectors.users, vectors.items  # type: ignore[return-value]
    return prepare(vectors.users, similarity), prepare(vectors.items, similarity)
