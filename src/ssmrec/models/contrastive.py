"""Graph contrastive learning: LightGCN with an InfoNCE term between two views of the batch's nodes.

SimGCL and XSimGCL add noise to every layer, SGL drops edges. The noise has no gradient (the derivative
of its sign is zero), so a noisy view has the gradient of the plain one, and exact restricted
propagation gives both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ssmrec.data import Interactions
from ssmrec.errors import ConfigError
from ssmrec.kernels.softmax import has_kernel, shared_softmax
from ssmrec.models.base import Vectors
from ssmrec.models.graph import Graph
from ssmrec.models.lightgcn import LightGCNConfig, PropagatedBackbone

Array = np.ndarray


class ContrastiveConfig(LightGCNConfig):
    """Attributes:
    ssl_weight: weight lambda of the contrastive term.
    ssl_temperature: temperature of the contrastive term.
    """

    ssl_weight: float = Field(default=0.1, ge=0)
    ssl_temperature: float = Field(default=0.2, gt=0)


class Contrastive(PropagatedBackbone):
    """A propagated backbone with the contrastive term that SimGCL, XSimGCL and SGL share."""

    def _contrast(self, one: Tensor, other: Tensor, m: int) -> Tensor:
        """lambda * (InfoNCE of the first m rows, users, + InfoNCE of the rest, items)."""
        tau = self.config.ssl_temperature
        sides = [info_nce(one[part], other[part], tau) for part in (slice(m), slice(m, None))]
        return self.config.ssl_weight * (sides[0] + sides[1])


class NoiseConfig(ContrastiveConfig):
    """Attributes:
    layers: number of propagation layers K; the output is the mean of layers 1 to K.
    noise: length of the random vector that is added to a node in each layer.
    """

    noise: float = Field(default=0.1, ge=0)


class SimGCL(Contrastive):
    """Two noisy views, contrasted; the mean of layers 1 to K (Yu et al., SIGIR 2022).

    Each layer of a view adds noise * sign(x) * r, with r uniform in [0, 1) and brought to unit
    length. The recommendation loss reads plain vectors.
    """

    Config = NoiseConfig

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        super().__init__(config, train, generator, (0.0,) + (1 / config.layers,) * config.layers)

    def for_training(
        self, users: Tensor, items: Tensor, positives: Tensor, generator: torch.Generator
    ) -> tuple[Vectors, Tensor | None]:
        plain = self.vectors(users, items)
        anchors = torch.cat([plain.users, plain.items[positives]])
        rows = nodes(users, items[positives], self.n_users)
        first = self._first(rows)
        one, other = (
            anchors + (self._mean(self._noisy(rows, first, generator)) - anchors).detach()
            for _ in range(2)
        )
        return plain, self._contrast(one, other, len(users))

    @torch.no_grad()
    def _first(self, rows: Array) -> Tensor:
        """Layer 1 without noise at the nodes that the layers above read; all views share it."""
        return self._layer(self.table, self.graph.reach(rows, self.config.layers)[1])

    @torch.no_grad()
    def _noisy(self, rows: Array, first: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Layers 1 to K of one view at `rows`, each (len(rows), d)."""
        reach = self.graph.reach(rows, self.config.layers)
        index = torch.from_numpy(rows).to(first.device)
        x, found = first.clone(), []
        for layer in range(1, self.config.layers + 1):
            x = x if layer == 1 else self._layer(x, reach[layer])
            at = slice(None) if reach[layer] is None else torch.from_numpy(reach[layer])
            moved = x[at]
            drawn = F.normalize(torch.rand(moved.shape, generator=generator), dim=1)
            x[at] = moved + self.config.noise * moved.sign() * drawn.to(moved)
            found.append(x[index])
        return found

    def _layer(self, x: Tensor, rows: Array | None) -> Tensor:
        """One plain layer, at least at `rows` (all when None); other rows are not set."""
        if x.device.type == "cpu":
            return torch.from_numpy(self.graph.layer(x.detach().numpy(), rows))
        return self.graph.full(x.detach(), (0.0, 1.0))

    def _mean(self, layers: list[Tensor]) -> Tensor:
        return torch.stack(layers).mean(0)


class XSimGCLConfig(NoiseConfig):
    """Attributes:
    ssl_layer: the layer whose noisy rows are contrasted with the noisy mean.
    """

    noise: float = Field(default=0.2, ge=0)
    ssl_weight: float = Field(default=0.2, ge=0)
    ssl_layer: int = Field(default=1, ge=1)


class XSimGCL(SimGCL):
    """One noisy view for the loss and the contrast: its mean against its layer l* (Yu et al., TKDE 2024)."""

    Config = XSimGCLConfig

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        super().__init__(config, train, generator)
        if config.ssl_layer > config.layers:
            raise ConfigError(
                f"model.ssl_layer={config.ssl_layer} lies above model.layers={config.layers}: "
                f"choose 1 to {config.layers}"
            )

    def for_training(
        self, users: Tensor, items: Tensor, positives: Tensor, generator: torch.Generator
    ) -> tuple[Vectors, Tensor | None]:
        plain = self.vectors(users, items)
        m, at, rows = len(users), self.config.ssl_layer, nodes(users, items, self.n_users)
        noisy = self._noisy(rows, self._first(rows), generator)
        whole = torch.cat([plain.users, plain.items])
        whole = whole + (self._mean(noisy) - whole).detach()
        keep = torch.cat([torch.arange(m, device=positives.device), positives + m])
        only = (0.0,) * at + (1.0,)
        part, _ = self.graph.rows(self.table, only, rows[keep.cpu().numpy()])
        part = part + (noisy[at - 1][keep] - part).detach()
        vectors = Vectors(whole[:m], whole[m:], plain.ego_users, plain.ego_items)
        return vectors, self._contrast(whole[keep], part, m)


class SGLConfig(ContrastiveConfig):
    """Attributes:
    drop: share of the edges that each of the two views drops, drawn anew every epoch.
    """

    drop: float = Field(default=0.1, ge=0, lt=1)


class SGL(Contrastive):
    """LightGCN, and a contrast of two graphs with dropped edges (SGL-ED; Wu et al., SIGIR 2021).

    Degrees are those of the remaining edges. The other distinct nodes of the batch are the
    negatives of the contrast, in the place of all nodes.
    """

    Config = SGLConfig

    def __init__(self, config: Any, train: Interactions, generator: torch.Generator) -> None:
        weights = (1 / (config.layers + 1),) * (config.layers + 1)
        super().__init__(config, train, generator, weights)
        self.pairs = train
        self.views: list[Graph] = []

    def before_epoch(self, epoch: int, generator: torch.Generator) -> None:
        self.views = []
        for _ in range(2):
            keep = torch.rand(len(self.pairs), generator=generator) >= self.config.drop
            self.views.append(Graph(self.pairs.take(keep.numpy()), self.config.alpha))

    def for_training(
        self, users: Tensor, items: Tensor, positives: Tensor, generator: torch.Generator
    ) -> tuple[Vectors, Tensor | None]:
        rows = nodes(users, items[positives], self.n_users)
        if not self.views:
            self.before_epoch(0, generator)
        one, other = (view.rows(self.table, self.layer_weights, rows)[0] for view in self.views)
        return self.vectors(users, items), self._contrast(one, other, len(users))


def nodes(users: Tensor, items: Tensor, n_users: int) -> Array:
    """Node numbers of users and then items."""
    return torch.cat([users, items + n_users]).cpu().numpy()


def info_nce(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Mean over rows of -log( e^{cos(a_i, b_i)/tau} / sum_j e^{cos(a_i, b_j)/tau} ), a scalar.

    Args:
        one, other: (n, d), row i of both being the same node.
    """
    a, b = F.normalize(one, dim=1) / temperature, F.normalize(other, dim=1)
    if has_kernel(a):
        return shared_softmax(a, b, b, None, None, True).mean()
    return F.cross_entropy(a @ b.T, torch.arange(len(a), device=a.device))
