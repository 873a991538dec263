"""What every backbone offers: vectors for the rows a batch needs, or for all rows."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssmrec.config import Config
from ssmrec.data import Interactions


@dataclass(frozen=True, eq=False)
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
    closed_form: ClassVar[bool] = False
    """Whether `solve` computes the model at once; loss, sampler and epochs are not used then."""
    own_scores: ClassVar[bool] = False
    """Whether scores are the model's own and no similarity of vectors: ranking is by dot only."""
    row_gradients: ClassVar[bool] = False
    """Whether a batch's gradient reaches no rows but its own, so that `sparse` gradients are offered."""

    recordable: bool = False
    """Whether `vectors` does the same work at every step, so that a GPU may record it and replay it:
    nothing that is read back, no sizes that depend on values, no numbers drawn, no counters. A class
    that overrides `vectors` or `before_epoch` must say it again."""

    timed: bool = False
    """Whether it looks at the timestamps of its training pairs, so that a run folder keeps them."""

    alike: bool = True
    """Whether items whose vectors point the same way are alike."""

    sparse: bool = False
    """Whether the gradients of the tables are to be sparse (`train.optimizer=lazy_adam`)."""

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.n_users, self.n_items = train.n_users, train.n_items

    @classmethod
    def width(cls, config: Any) -> int | None:
        """Numbers of a vector, where the settings alone tell it; else None."""
        return getattr(config, "dim", None)

    @classmethod
    def check(cls) -> None:
        """Raise a `ConfigError` where a library that the model needs is not installed."""

    @abstractmethod
    def vectors(self, users: Tensor | None = None, items: Tensor | None = None) -> Vectors:
        """Vectors of distinct `users` (m,) and `items` (n,), int64; None means all of that side."""

    def layers(self, users: Tensor, items: Tensor) -> Vectors:
        """`vectors` before their layers are summed, for a sampler that mixes in each of them.

        `users` and `items` of what is returned are (m, L, d) and (n, L, d); their sums over L are those of
        `vectors`. L is 1 where layers are not summed.
        """
        whole = self.vectors(users, items)
        return replace(whole, users=whole.users[:, None], items=whole.items[:, None])

    def _nodes(self, users: Tensor | None, items: Tensor | None) -> tuple[Tensor, int]:
        """Node numbers of `users`, then of `items` (all of a side for None), and how many are users."""
        device = next(self.parameters()).device
        user_rows = torch.arange(self.n_users, device=device) if users is None else users
        item_rows = torch.arange(self.n_items, device=device) if items is None else items
        return torch.cat([user_rows, item_rows + self.n_users]), len(user_rows)

    def for_training(
        self, users: Tensor, items: Tensor, positives: Tensor, generator: torch.Generator
    ) -> tuple[Vectors, Tensor | None]:
        """Vectors of a training batch, and a scalar to add to its loss, or None.

        Override it where training looks at other vectors than ranking (noise, dropped edges), or has
        a term of its own (a contrast of two views).

        Args:
            users: (m,), items: (n,) distinct, as for `vectors`.
            positives: int64 (p,) positions in `items` of the distinct positives.
            generator: source of the randomness of this batch, on the CPU.
        """
        return self.vectors(users, items), None

    def before_epoch(self, epoch: int, generator: torch.Generator) -> None:
        """Called before each pass over the pairs, from epoch 1 on, with the generator of the epoch."""

    def solve(self) -> None:
        """Compute the whole model from the training interactions; of closed forms only."""
        raise NotImplementedError(f"{type(self).__name__} is trained, not solved")
