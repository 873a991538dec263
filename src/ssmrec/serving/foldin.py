"""Fold-in: vectors of new users from the items they liked, without training.

| model | how |
|---|---|
| lightgcn, lightgcnpp, svdpp, simplex, simgcl, xsimgcl, sgl | the propagation formula for one more user row, \
its own vector zero; trained items stay as they are |
| ngcf | the same, layer by layer |
| ease, gfcf | the history itself, exactly what a trained user has |
| ials | its own least squares, exactly |
| blend | each part in its own way |
| popular | the same for all |
| mf, others | ridge regression on the item vectors |
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssmrec.losses import Similarity, prepare
from ssmrec.models import (
    IALS,
    NGCF,
    Backbone,
    Blend,
    HistoryRows,
    LightGCNpp,
    PropagatedBackbone,
    ScoringRows,
    SimpleX,
)
from ssmrec.models.blend import added
from ssmrec.models.popular import Popular
from ssmrec.ranking import ItemRows
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.training import Trained, resolve

Array = np.ndarray
Rows = Tensor | ScoringRows
logger = logging.getLogger("ssmrec")

RIDGE: dict[Similarity, tuple[float, float]] = {"cosine": (1.0, 1.0), "dot": (0.1, 100.0)}
"""Settings `l2` and `unseen` of `ridge` for each ranking similarity (docs/production.md).

Where vectors keep their lengths, frequent items must be held down by a large weight of all items.
"""


_NUMBERS = 1 << 21
"""Most numbers of the items of some new users held at once (16 MB)."""


class FoldIn:
    """Vectors of new users for one trained model, comparable with its ranking vectors.

    Args:
        trained: the model, on a CPU. What does not depend on the user is computed once, here.

    Attributes:
        how: `propagation`, `history`, `least squares`, `ridge`, or those of its parts.
    """

    def __init__(self, trained: Trained) -> None:
        self.trained = trained
        self.similarity: Similarity = trained.config.ranking.similarity  # type: ignore[assignment]
        self.how, self._rows = self._method()

    def vectors(self, liked: ItemRows) -> Rows:
        """Ranking vectors (m, d) of users with the items of each row; zero for an empty row.

        Items without training pairs have no meaning to the model: leave them out before.
        """
        with torch.no_grad():
            found = self._rows(liked)
        return found if isinstance(found, ScoringRows) else prepare(found, self.similarity)

    def _agrees(self, message: Message) -> bool:
        """Whether his own row and the message of his own items give a trained user his vector."""
        train = self.trained.train
        some = np.flatnonzero(train.user_degrees)[:4]
        bounds = train.indptr
        own = [train.indices[bounds[user] : bounds[user + 1]] for user in some]
        found = self.trained.model.vectors(torch.from_numpy(some))
        made = message.own * found.ego_users + message.received(ItemRows.of(own, train.n_items))
        return torch.allclose(made, found.users, rtol=1e-3, atol=1e-5)

    def _blended(self, model: Blend) -> Callable[[ItemRows], Rows]:
        """Each part folds a user in as it does alone; the scale is that of its trained users."""
        models: Iterable[Any] = model.parts
        parts = [
            FoldIn(replace(self.trained, model=part, config=resolve(facts.settings)))
            for part, facts in zip(models, model.config.parts, strict=True)
        ]
        scales = [side.scale for side in model.sides()]

        def rows(liked: ItemRows) -> Rows:
            found = [part.vectors(liked) for part in parts]
            return added([scale.users(x) for scale, x in zip(scales, found, strict=True)])

        return rows

    @torch.no_grad()
    def _method(self) -> tuple[str, Callable[[ItemRows], Rows]]:
        model = self.trained.model
        message = _message(model)
        if message is not None:
            if self._agrees(message):
                return "propagation", message.received
            logger.warning("%s has vectors of its own: new users by ridge", type(model).__name__)
        if isinstance(model, NGCF):
            return "propagation", _ngcf(model)
        if isinstance(model, IALS):
            config = model.config
            return "least squares", _solver(
                model.items, 1.0, config.alpha - 1, config.alpha, config.l2
            )
        if isinstance(model, Blend):
            return "its parts' own ways", self._blended(model)
        if isinstance(model, Popular):
            return "the same for all", _one_for_all
        users, items = ranking_vectors(model, self.similarity)
        if isinstance(users, HistoryRows):
            return "history", lambda liked: HistoryRows(liked.indptr, liked.indices, liked.n_items)
        known = torch.from_numpy(self.trained.train.item_degrees > 0)
        return "ridge", ridge(items * known[:, None], *RIDGE[self.similarity])


def _one_for_all(liked: ItemRows) -> Tensor:
    """1 for every row with an item, as trained users have."""
    return torch.from_numpy(np.diff(liked.indptr) > 0)[:, None].float()


def ridge(items: Tensor, l2: float = 1.0, unseen: float = 1.0) -> Callable[[ItemRows], Tensor]:
    """Least squares for a user vector u against fixed item vectors v:

        sum over liked (1 - u.v)^2 / n + unseen * mean over all items (u.v)^2 + l2 * s |u|^2,

    with n liked items and s the mean of |v|^2. It is the user half of implicit alternating least
    squares (Hu et al., ICDM 2008) with weights that do not depend on the number of items.

    Args:
        items: (n_items, d); rows of items that are unknown must be zero.
    """
    items = items.detach()
    scale = items.square().sum(1)
    used = int((scale > 0).sum())
    weight = float(l2 * scale.sum() / max(used, 1))
    return _solver(items, unseen / max(used, 1), 1.0, 1.0, max(weight, 1e-12), mean=True)


def _solver(
    items: Tensor, every: float, extra: float, target: float, l2: float, mean: bool = False
) -> Callable[[ItemRows], Tensor]:
    """u = (every V'V + extra sum vv' + l2 I)^-1 target sum v, sums (or means) over the liked items.

    Many users at once: where threads are busy, each call of a library waits for all of them.
    """
    dim = items.shape[1]
    table = torch.cat([items.detach().double(), torch.zeros(1, dim, dtype=torch.float64)])
    base = every * table.T @ table + l2 * torch.eye(dim, dtype=torch.float64)

    def solved(liked: ItemRows, part: slice) -> Tensor:
        sizes = liked.user_degrees[part]
        held = np.arange(sizes.max(initial=0)) < sizes[:, None]
        at = np.full(held.shape, len(items))  # the row of zeros
        at[held] = liked.indices[liked.indptr[part.start] : liked.indptr[part.stop]]
        mine = table[torch.from_numpy(at)]
        share = torch.from_numpy(1 / np.maximum(sizes, 1) if mean else np.ones(len(sizes)))
        system = base + extra * share[:, None, None] * (mine.transpose(1, 2) @ mine)
        return torch.linalg.solve(system, target * share[:, None] * mine.sum(1))

    def rows(liked: ItemRows) -> Tensor:
        longest = int(liked.user_degrees.max(initial=0))
        size = max(1, _NUMBERS // (dim * max(longest, dim)))
        parts = [
            solved(liked, slice(start, min(start + size, liked.n_users)))
            for start in range(0, liked.n_users, size)
        ]
        return torch.cat([torch.zeros(0, dim, dtype=torch.float64), *parts]).to(items.dtype)

    return rows


@dataclass(frozen=True, eq=False)
class Message:
    """A user vector that is own * (own row) + |H|^-exponent * (sum of item rows of his items H).

    Graph backbones have this form once the item side is held: with layers x^(k), weights w and degree
    exponents a, a user receives sum_k w_k |H|^-a0 sum_{i in H} degree(i)^-a1 x_i^(k-1), so one table
    of items, degree(i)^-a1 sum_k w_k x_i^(k-1), serves every user.
    """

    table: Tensor
    exponent: float
    own: float

    def received(self, liked: ItemRows) -> Tensor:
        return _sums(liked, self.table, self.exponent)


def _message(model: Backbone) -> Message | None:
    """What the items of `model` send to a user; None where users receive no such message."""
    m = model.n_users
    if isinstance(model, SimpleX):
        gamma = model.config.gamma
        return Message((1 - gamma) * model.table[m:] @ model.turn.T, 1.0, gamma)
    if not isinstance(model, (PropagatedBackbone, LightGCNpp)):
        return None
    if not (model.graph.receive[:m] > 0).any():  # SVD++ with side=item
        return None
    if isinstance(model, LightGCNpp):
        x, total, own = model.table, torch.zeros_like(model.table), model.config.gamma
        for layer in range(model.config.layers):
            unit = F.normalize(x, dim=1)
            total += unit * (1 - own) / model.config.layers
            x = model.graph.neighbours(unit) if layer < model.config.layers - 1 else x
    else:
        total, own = model.graph.full(model.table, model.layer_weights[1:]), model.layer_weights[0]
    sent = total[m:] * torch.from_numpy(model.graph.send[m:])[:, None]
    return Message(sent, float(model.config.alpha[0]), own)


def _ngcf(model: NGCF) -> Callable[[ItemRows], Tensor]:
    """Layer by layer from a zero row; a node's vector holds its layers side by side."""
    states = model.vectors().items.split(model.config.dim, dim=1)
    send = torch.from_numpy(model.graph.send[model.n_users :])[:, None]

    def rows(liked: ItemRows) -> Tensor:
        parts = [torch.zeros(liked.n_users, model.config.dim)]
        for layer, state in enumerate(states[:-1]):
            received = _sums(liked, state * send, 0.5)
            parts.append(model._layer(layer, received, parts[-1]))
        return torch.cat(parts, dim=1)

    return rows


def _sums(liked: ItemRows, table: Tensor, exponent: float) -> Tensor:
    """|H|^-exponent times the sum of the rows H of `table`, for each row of `liked`."""
    row = torch.from_numpy(np.repeat(np.arange(liked.n_users), liked.user_degrees))
    picked = table[torch.from_numpy(liked.indices.astype(np.int64))]
    total = torch.zeros(liked.n_users, table.shape[1], dtype=table.dtype).index_add_(0, row, picked)
    degree = torch.from_numpy(np.maximum(liked.user_degrees, 1)).to(table.dtype)
    return total * degree.pow(-exponent)[:, None]
