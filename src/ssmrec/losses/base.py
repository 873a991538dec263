"""What every loss offers: one value per row from the logits of its positive and its negatives."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssmrec.config import Config

Similarity = Literal["cosine", "dot"]


class LossConfig(Config):
    """Settings that all losses share.

    Attributes:
        similarity: cosine or dot product of user and item vectors in training.
        temperature: logits are similarity / temperature; above 0, usually 0.05 to 1.
    """

    similarity: Similarity = "cosine"
    temperature: float = Field(default=0.2, gt=0)


class Loss(nn.Module):
    """A loss is built as `Loss(config)` and reads logits, so it works with any backbone and sampler."""

    Config: ClassVar[type[Config]] = LossConfig
    default_negatives: ClassVar[dict[str, Any] | None] = None
    """Sampler settings used when none are asked for; None takes the general default."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Loss of each row, (B,).

        Args:
            pos_logits: (B,) similarity / temperature of the positives.
            neg_logits: (B, N) the same of the negatives.
            log_q: (N,) or (B, N) log expected counts to subtract, or None.
            mask: (B, N) True where a candidate does not count, or None.
        """


def corrected(logits: Tensor, log_q: Tensor | None, mask: Tensor | None) -> Tensor:
    """Negative logits in float32, minus log expected count, minus infinity where masked."""
    logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    if log_q is not None:
        logits = logits - log_q
    return logits if mask is None else logits.masked_fill(mask, -torch.inf)


def prepare(vectors: Tensor, similarity: Similarity) -> Tensor:
    """Vectors whose dot product is the similarity: unit length for cosine (zero stays zero)."""
    return F.normalize(vectors, dim=-1, eps=1e-12) if similarity == "cosine" else vectors
