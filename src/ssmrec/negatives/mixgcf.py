"""Negatives that are no items: vectors mixed of the positive and of hard candidates, in each layer."""

from __future__ import annotations

import torch
from torch import Tensor

from ssmrec.negatives.hard import Pool, PoolConfig


class MixGCF(Pool):
    """One negative a row, mixed in every layer of message passing (Huang et al., KDD 2021).

    In layer l each candidate j of the pool becomes a_l p_l + (1 - a_l) x_jl (positive mixing), a_l uniform in
    (0, 1), new for each row and layer; the one with the highest inner product with the user's final vector
    stays (hop mixing where layers are summed), and the layers are summed as for an item. A backbone without
    layers (`mf`) has one. From the paper's definition; a row's candidates share a_l.
    """

    Config = PoolConfig
    mixes = True

    def mix(
        self,
        users: Tensor,
        positives: Tensor,
        draws: Tensor,
        mask: Tensor | None,
        generator: torch.Generator | None,
    ) -> Tensor:
        share = torch.rand((*positives.shape[:2], 1), generator=generator).to(draws)
        mixed = share[:, None] * positives[:, None] + (1 - share)[:, None] * draws
        user = users.detach().sum(1)[:, None, None]
        scores = (mixed.detach() * user).sum(3)  # (B, N, L)
        if mask is not None:
            scores.masked_fill_(mask[:, :, None], -torch.inf)
        at = scores.argmax(1)[:, None, :, None].expand(-1, 1, -1, mixed.shape[3])
        return mixed.gather(1, at).squeeze(1)
