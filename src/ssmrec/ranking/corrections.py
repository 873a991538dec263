"""Corrections of popularity bias after training: other vectors from the same model, nothing is learned.

Each has a `strength` that trades accuracy for exposure of rare items. To add one: a class, and a line in
`CORRECTIONS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ssmrec.config import Config, build, choose, override
from ssmrec.data import Interactions
from ssmrec.errors import ConfigError
from ssmrec.losses import Similarity, prepare
from ssmrec.models import Backbone, PropagatedBackbone, ScoringRows

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Strengths that show the trade between accuracy and exposure, unless a correction has its own scale."""

_CELLS = 1 << 24
"""Similarities of items to head items that are held at once: 64 MB."""


class Correction(ABC):
    """Built as `Correction(config)`."""

    Config: ClassVar[type[Config]]

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def vectors(
        self, model: Backbone, train: Interactions, similarity: Similarity
    ) -> tuple[Tensor, Tensor]:
        """User (m, d) and item (n, d) vectors whose dot product ranks.

        Args:
            model: the trained backbone. train: what it learned from.
            similarity: that of the run's ranking; a correction that sets lengths itself ignores it.
        """

    def ranked_by(self, similarity: Similarity) -> Similarity:
        """What ranks the corrected vectors where `similarity` ranks the run: dot, unless overridden."""
        return "dot"

    def strengths(self, model: Backbone) -> tuple[float, ...]:
        """Strengths that show the trade of this correction on `model`, from 0 up.

        Raises:
            ConfigError: the correction does not fit the model.
        """
        _plain(model)
        return STRENGTHS


class TTENConfig(Config):
    """Attributes:
    strength: exponent p of the item's length: 0 ranks by dot, 1 by cosine.
    """

    strength: float = Field(default=1.0, ge=0)


class TTEN(Correction):
    """Scores u . i / ||i||^p: test-time embedding normalisation (Kim et al., CIKM 2023)."""

    Config = TTENConfig

    def vectors(
        self, model: Backbone, train: Interactions, similarity: Similarity
    ) -> tuple[Tensor, Tensor]:
        users, items = _plain(model)
        return users, items * _length(items) ** -self.config.strength


class EDGEConfig(Config):
    """Attributes:
    strength: weight lambda of the mean of similar head items that is added to a unit item vector.
    alpha: 1 - alpha is the exponent of the item's own length, which the result gets back.
    beta: exponent of (popularity + 1), by which the result is multiplied.
    temperature: of the softmax over the head items, at least 0.01.
    head: share of the items, the most popular ones, that are head items.
    """

    strength: float = Field(default=1.0, ge=0)
    alpha: float = 1.0
    beta: float = 0.0
    temperature: float = Field(default=0.05, ge=0.01)
    head: float = Field(default=0.2, gt=0, le=1)


class EDGE(Correction):
    """Post-training enhancement of item vectors by similar head items (Lee et al., CIKM 2024).

    e* = norm( norm(e) + lambda a ) (pop + 1)^beta ||e||^(1 - alpha), a = norm( sum_h w_h norm(e_h) ),
    w = softmax over the head items h of cos(e, e_h) / temperature. Users keep their vectors. With
    strength, alpha and beta 0 nothing changes; with alpha 1 and the others 0 it is TTEN with p = 1.
    """

    Config = EDGEConfig

    def vectors(
        self, model: Backbone, train: Interactions, similarity: Similarity
    ) -> tuple[Tensor, Tensor]:
        config = self.config
        users, items = _plain(model)
        popular = torch.from_numpy(train.item_degrees.astype(np.float32)).to(items.device)
        count = max(1, round(config.head * int((popular > 0).sum())))
        unit = F.normalize(items, dim=1)
        head = unit[popular.argsort(descending=True, stable=True)[:count]]
        added = [
            F.normalize(torch.softmax(part @ head.T / config.temperature, dim=1) @ head, dim=1)
            for part in unit.split(max(1, _CELLS // count))
        ]
        mixed = F.normalize(unit + config.strength * torch.cat(added), dim=1)
        length = (popular + 1)[:, None] ** config.beta * _length(items) ** (1 - config.alpha)
        return users, mixed * length


class DAPConfig(Config):
    """Attributes:
    strength: weight of the part along the members of the cluster with more neighbours, in units of
        the vectors' length: well below the usual length of a node.
    low: weight of the part along those with fewer.
    clusters: number of clusters of k-means.
    """

    strength: float = Field(default=0.02, ge=0)
    low: float = Field(default=0.0, ge=0)
    clusters: int = Field(default=10, ge=1)


class DAP(Correction):
    """Takes amplified popularity out of every layer of message passing (Chen et al., 2023).

    The propagated nodes are clustered; with h and l the unit means of the members of a node's cluster
    that have a higher and a lower degree, its layer becomes x - strength cos(y, h) h - low cos(y, l) l,
    y being the node before the layer. An empty mean counts as zero. Layers that follow read the result.
    """

    Config = DAPConfig

    def vectors(
        self, model: Backbone, train: Interactions, similarity: Similarity
    ) -> tuple[Tensor, Tensor]:
        model = _propagated(model)
        graph, config = model.graph, self.config
        degrees, weights = torch.from_numpy(graph.degrees), model.layer_weights
        x = model.table.detach()
        out = weights[0] * x
        for weight in weights[1:]:
            before, x = x, graph.neighbours(x)
            cluster = k_means(x, config.clusters).cpu()
            high, low = neighbours_by_degree(x, cluster, degrees.cpu())
            for direction, amount in ((high, config.strength), (low, config.low)):
                x = x - amount * F.cosine_similarity(before, direction, dim=1)[:, None] * direction
            out = out + weight * x
        m = model.n_users
        return prepare(out[:m], similarity), prepare(out[m:], similarity)

    def ranked_by(self, similarity: Similarity) -> Similarity:
        return similarity

    @torch.no_grad()
    def strengths(self, model: Backbone) -> tuple[float, ...]:
        """Shares of the vectors' mean length, to two digits: at 1 a typical part along h is gone."""
        usual = float(torch.cat(_plain(_propagated(model))).norm(dim=1).mean())
        return tuple(float(f"{usual * each:.2g}") for each in STRENGTHS)


CORRECTIONS: dict[str, type[Correction]] = {"tten": TTEN, "edge": EDGE, "dap": DAP}


def correction(asked: str | Mapping[str, Any]) -> Correction:
    """A correction by its name and settings.

    Args:
        asked: `edge`, `edge:strength=0.5,alpha=0.8`, or a mapping with `name` and the settings.

    Raises:
        ConfigError: an unknown name or setting, or a value out of range.
    """
    values = _parsed(asked) if isinstance(asked, str) else dict(asked)
    cls = choose(CORRECTIONS, str(values.pop("name", "")), "correction")
    return cls(build(cls.Config, values, "correction"))


@torch.no_grad()
def corrected_vectors(
    model: Backbone, train: Interactions, similarity: Similarity, asked: str | Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """User (m, d) and item (n, d) vectors of `model` after a correction; their dot product ranks.

    Raises:
        ConfigError: as `correction`; or the model has no vectors that could be corrected, or they grow
            beyond what a float holds.
    """
    found = correction(asked).vectors(model, train, similarity)
    whole = all(part.isfinite().all() for part in found)
    if not whole and all(part.isfinite().all() for part in model.parameters()):
        raise ConfigError(
            f"correction {asked}: vectors grow beyond what a float holds; lower its settings"
        )
    return found


def k_means(points: Tensor, clusters: int, iterations: int = 10) -> Tensor:
    """Cluster of each point, int64 (n,), by Lloyd's iterations from evenly spaced points."""
    count = min(clusters, len(points))
    centres = points[torch.linspace(0, len(points) - 1, count).long()]
    nearest = points.new_zeros(len(points), dtype=torch.int64)
    for _ in range(iterations):
        nearest = (points @ centres.T - centres.pow(2).sum(1) / 2).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        sizes = torch.bincount(nearest, minlength=count)[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
    return nearest


def neighbours_by_degree(x: Tensor, cluster: Tensor, degrees: Tensor) -> tuple[Tensor, Tensor]:
    """Unit means of the members of each node's cluster with higher and with lower degree, (n, d) both.

    Zero where there is no such member. One sort and one running sum for each cluster.
    """
    high, low = torch.zeros_like(x), torch.zeros_like(x)
    for number in cluster.unique():
        members = (cluster == number).nonzero()[:, 0]
        members = members[degrees[members].argsort(stable=True)]
        sorted_degrees = degrees[members].contiguous()
        running = F.pad(x[members].double().cumsum(0), (0, 0, 1, 0))
        below = torch.searchsorted(sorted_degrees, sorted_degrees)
        upto = torch.searchsorted(sorted_degrees, sorted_degrees, right=True)
        above = (upto < len(members))[:, None].to(x.device)
        low[members] = F.normalize(running[below], dim=1).to(x)
        high[members] = F.normalize((running[-1] - running[upto]) * above, dim=1).to(x)
    return high, low


def _plain(model: Backbone) -> tuple[Tensor, Tensor]:
    found = model.vectors()
    if isinstance(found.users, ScoringRows):
        raise ConfigError("an item-item model, or a blend with one, has no item vectors to correct")
    return found.users, found.items


def _propagated(model: Backbone) -> PropagatedBackbone:
    if not isinstance(model, PropagatedBackbone):
        raise ConfigError("the correction dap acts on the layers of lightgcn and its kin only")
    return model


def _length(rows: Tensor) -> Tensor:
    return rows.norm(dim=1, keepdim=True).clamp_min(1e-12)


def _parsed(text: str) -> dict[str, Any]:
    """`name:key=value,key=value`."""
    name, _, rest = text.partition(":")
    pairs = [part for part in rest.split(",") if part]
    for pair in pairs:
        if "=" not in pair:
            raise ConfigError(f"correction {text!r}: {pair!r} must look like strength=0.5")
    return override({"name": name}, pairs)
