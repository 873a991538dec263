"""What every backbone offers: vectors for the rows a batch needs, or for all rows."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssmrec.config import Config
from ssmrec.data import Interactions


@dataclass(frozen=True)
class Vectors:
    """Representations of some users and items.

    Args:
        users: (m, d); items: (n, d), what similarity is computed on.
        ego_users: (m, d); ego_items: (n, d), the layer-0 rows that L2 regularisation acts on.
    """

    users: Tensor
    items: Tensor
    ego_users: Tensor
    ego_items: Tensor


class Backbone(nn.Module):
    """Turns indices into vectors. Knows nothing of losses, samplers or metrics.

    A backbone is built as `Backbone(config, train, generator)`: settings, the training interactions
    (the only data it may see) and the generator for its initial weights.
    """

    Config: ClassVar[type[Config]]
    message_passing: ClassVar[bool] = False
    """Whether vector lengths adjust to node degree; decides which sampler and ranking fit."""

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.n_users, self.n_items = train.n_users, train.n_items

    @abstractmethod
    def vectors(self, users: Tensor | None = None, items: Tensor | None = None) -> Vectors:
        """Vectors of distinct `users` (m,) and `items` (n,), int64; None means all of that side."""
