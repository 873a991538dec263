"""The vectors that rank: those of the backbone, prepared for the ranking similarity."""

from __future__ import annotations

import torch
from torch import Tensor

from ssmrec.losses import Similarity, prepare
from ssmrec.models import Backbone


@torch.no_grad()
def ranking_vectors(model: Backbone, similarity: Similarity) -> tuple[Tensor, Tensor]:
    """User (m, d) and item (n, d) vectors whose dot product is the ranking similarity."""
    vectors = model.vectors()
    return prepare(vectors.users, similarity), prepare(vectors.items, similarity)
