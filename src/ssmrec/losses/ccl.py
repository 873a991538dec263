"""Cosine contrastive losses: hinges on the similarity itself, without a temperature."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from ssmrec.losses.base import Loss, PlainLossConfig, shares, widened


class CCLConfig(PlainLossConfig):
    """Attributes:
    margin: similarity from which on a negative counts, -1 to 1.
    weight: of the negatives' mean against the positive.
    """

    margin: float = Field(default=0.6, ge=-1, le=1)
    weight: float = Field(default=10.0, gt=0)


class CCL(Loss):
    """Cosine contrastive loss of SimpleX (Mao et al., CIKM 2021; Eq 28 of Wu et al. 2024).

    loss = relu(1 - s+) + weight * mean_j relu(s_j - margin), s the similarity; the mean is 0 when no
    negative is left. Margin and weight are to be tuned, the weight first: Wu et al. search margins of
    0.1 to 1 and weights of 1, 150, 300, 1000. The defaults here are ours, measured on two small data
    sets (docs/losses.md), where 150 gives a quarter to a half less.
    """

    Config = CCLConfig
    recordable = True
    row_by_row = True
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "uniform", "n": 1024}

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        hinge = F.relu(widened(neg_logits) - self.config.margin)
        negatives = (shares(neg_logits, log_q, mask) * hinge).sum(1)
        return F.relu(1 - widened(pos_logits)) + self.config.weight * negatives


class MMCLConfig(PlainLossConfig):
    """Attributes:
    margins: similarities from which on a negative counts, -1 to 1, one hinge for each.
    weights: of the hinges, as many as margins, none below 0.
    pos_weight: of the positive.
    neg_weight: of the negatives' mean; 250 and 700 are published, smaller data want 30 to 300.
    """

    margins: tuple[Annotated[float, Field(ge=-1, le=1)], ...] = Field(
        default=(0.7, 0.8, 0.9), min_length=1
    )
    weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.10, 0.15, 0.75), min_length=1
    )
    pos_weight: float = Field(default=1.0, gt=0)
    neg_weight: float = Field(default=100.0, gt=0)

    @model_validator(mode="after")
    def _one_weight_each(self) -> MMCLConfig:
        if len(self.margins) != len(self.weights):
            raise ValueError(
                f"{len(self.margins)} margins, but {len(self.weights)} weights: give one for each"
            )
        return self


class MMCL(Loss):
    """Multi-margin cosine loss (Ozsoy, 2024): CCL with several margins.

    loss = pos_weight * relu(1 - s+) + neg_weight * mean_j sum_k w_k relu(s_j - m_k). One margin with
    weight 1 is CCL. Margins and their weights are those published for Gowalla.
    """

    Config = MMCLConfig
    recordable = True
    row_by_row = True
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "uniform", "n": 800}

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        similarity, config = widened(neg_logits), self.config
        hinge = sum(
            (
                w * F.relu(similarity - m)
                for m, w in zip(config.margins, config.weights, strict=True)
            ),
            start=similarity.new_zeros(()),
        )
        negatives = (shares(neg_logits, log_q, mask) * hinge).sum(1)
        positive = F.relu(1 - widened(pos_logits))
        return config.pos_weight * positive + config.neg_weight * negatives
