"""What an analysis looks at: a trained run, its held-out pairs, its vectors, rows as its sampler draws them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ssmrec.data import Interactions
from ssmrec.evaluation import find_hits
from ssmrec.evaluation.protocol import prepared
from ssmrec.losses import Similarity
from ssmrec.models import Backbone
from ssmrec.negatives import AllItems, Batch, Sampler
from ssmrec.ranking import top_k
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.training import Trained
from ssmrec.training.config import closed_form, make_model, make_sampler
from ssmrec.training.seeds import numpy_generator, torch_generator

Array = np.ndarray

_CELLS = 4_000_000
"""Most (row, candidate) pairs analysed at once: eight arrays of them take 256 MB."""


@dataclass(frozen=True, eq=False)
class Table:
    """Vectors of all users and items as float64: users (m, d), items (n, d), and their layer-0 rows."""

    users: Array
    items: Array
    ego_users: Array
    ego_items: Array


@dataclass(frozen=True, eq=False)
class Lists:
    """Ranked lists of the averaged users.

    Args:
        ids: int (m, K), -1 for padding; hits: bool (m, K).
        user_index: (m,); relevant: (m,) number of held-out items of each.
        held_out: the pairs to be found, those already known left out.
    """

    ids: Array
    hits: Array
    user_index: Array
    relevant: Array
    held_out: Interactions


@dataclass(frozen=True, eq=False)
class Drawn:
    """Rows of one training batch with the candidates the run's sampler drew for them.

    Args:
        users, items: int (B,); candidates: int (B, N).
        live: bool (B, N), candidates that the loss counts; own: bool (B, N), the row's own positive
            where it is no candidate at all (the diagonal of in-batch negatives; of all items the row's).
        log_q: float (B, N), zero without correction.
    """

    users: Array
    items: Array
    candidates: Array
    live: Array
    own: Array
    log_q: Array


class Subject:
    """A trained run under analysis.

    Args:
        trained: as `load_run` gives it.
        held_out: test pairs (or validation pairs) over the run's vocabularies.
        seen: what is masked when ranking, train first.
    """

    def __init__(self, trained: Trained, held_out: Interactions, seen: list[Interactions]) -> None:
        self.trained, self.held_out, self.seen = trained, held_out, seen
        self.train, self.config = trained.train, trained.config
        loss = self.config.loss
        self.solved = closed_form(self.config)
        self.warm = bool(trained.metrics.get("warm_start"))
        self.temperature = float(loss.get("temperature", 1.0))
        self.similarity: Similarity = "cosine" if loss.get("similarity") == "cosine" else "dot"

    @cached_property
    def final(self) -> Table | None:
        """Vectors of the trained model; None where users are no vectors (item-item models)."""
        return _table(self.trained.model)

    @cached_property
    def start(self) -> Table | None:
        """Vectors before the first step, made again from the seed.

        None for closed forms, and for runs that began with the model of an earlier one.
        """
        if self.solved or self.warm:
            return None
        model = make_model(self.config, self.train, torch_generator(self.config.seed, "init"))
        return _table(model)

    def at(self, model: Backbone) -> Subject:
        """The same subject with the vectors of `model`, such as the run's at an earlier epoch."""
        other = Subject(self.trained, self.held_out, self.seen)
        other.__dict__["final"] = _table(model)
        return other

    @cached_property
    def sampler(self) -> Sampler:
        return make_sampler(self.config, self.train)

    def logits(self, table: Table) -> Table:
        """Vectors whose dot product is the logit of training, similarity / temperature."""
        users, items = table.users, table.items
        if self.similarity == "cosine":
            users, items = unit(users), unit(items)
        return Table(users / self.temperature, items, table.ego_users, table.ego_items)

    def lists(self, k: int, similarity: Similarity | None = None) -> Lists:
        """The run's lists, by the one scoring path; another `similarity` instead of its own."""
        rank = similarity or self.config.ranking.similarity
        return self.ranked(*ranking_vectors(self.trained.model, rank), k)  # type: ignore[arg-type]

    def ranked(self, users: Tensor, items: Tensor, k: int) -> Lists:
        """Lists by any vectors, masked and averaged over the same users as `evaluate` does.

        Raises:
            DataError: there is no user to average over.
        """
        task = prepared(self.held_out, self.seen)
        index = task.user_index
        ids = top_k(
            users[torch.from_numpy(index).to(users.device)], items, k, seen=self.seen,
            user_index=index, allowed=self.train.item_degrees > 0,
        ).ids  # fmt: skip
        return Lists(ids, find_hits(ids, task.held_out, index), index, task.relevant, task.held_out)

    def draw(self, rows: int, seed: int, sampler: Sampler | None = None) -> Drawn:
        """The first `rows` rows of a batch of the run's size, with what `sampler` draws for it.

        The sampler is the run's own when None. One that chooses among its draws does so by the scores of
        the final model.
        """
        sampler = sampler or self.sampler
        generator = numpy_generator(seed, "analysis")
        size = min(self.config.train.batch_size, len(self.train))
        order = generator.choice(len(self.train), size, replace=False)
        batch = Batch(
            torch.from_numpy(self.train.rows[order].astype(np.int64)),
            torch.from_numpy(self.train.indices[order].astype(np.int64)),
        )
        negatives = sampler.draw(batch, generator)
        in_batch = negatives.ids is None
        ids = (batch.items if in_batch else negatives.ids).numpy()  # type: ignore[union-attr]
        n = ids.shape[-1]
        rows = max(1, min(rows, size, _CELLS // max(n, 1)))
        masked = np.zeros((rows, n), dtype=bool)
        if negatives.masked is not None:
            row, column = negatives.masked.numpy()
            masked[row[row < rows], column[row < rows]] = True
        own = np.zeros_like(masked)
        if in_batch or negatives.of_batch:
            own[np.arange(rows), np.arange(rows)] = True
        elif isinstance(sampler, AllItems):
            own[np.arange(rows), batch.items.numpy()[:rows]] = True
        log_q = np.zeros(1) if negatives.log_q is None else negatives.log_q.numpy()
        drawn = Drawn(
            users=batch.users.numpy()[:rows],
            items=batch.items.numpy()[:rows],
            candidates=ids[:rows] if ids.ndim == 2 else np.broadcast_to(ids, (rows, n)),
            live=~(masked | own),
            own=own,
            log_q=log_q[:rows] if log_q.ndim == 2 else np.broadcast_to(log_q, (rows, n)),
        )
        return self._chosen(sampler, drawn) if sampler.chooses else drawn

    def _chosen(self, sampler: Sampler, drawn: Drawn) -> Drawn:
        """What a sampler that chooses keeps of its pool."""
        assert self.final is not None
        table = self.logits(self.final)
        users = table.users * self.temperature
        scores = scores_at(users, table.items, drawn.users, drawn.candidates)
        positive = (users[drawn.users] * table.items[drawn.items]).sum(1)
        columns = sampler.choose(
            torch.from_numpy(positive), torch.from_numpy(np.where(drawn.live, scores, -np.inf))
        ).numpy()
        parts = (drawn.candidates, drawn.live, drawn.own, drawn.log_q)
        return Drawn(drawn.users, drawn.items, *(np.take_along_axis(p, columns, 1) for p in parts))


@torch.no_grad()
def _table(model: Backbone) -> Table | None:
    found = model.vectors()
    parts = (found.users, found.items, found.ego_users, found.ego_items)
    if not all(isinstance(part, Tensor) for part in parts):
        return None
    return Table(*(part.detach().cpu().double().numpy() for part in parts))


def unit(vectors: Array) -> Array:
    """Rows of unit length, float64; a zero row stays zero."""
    x = np.asarray(vectors, dtype=np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def scores_at(users: Array, items: Array, rows: Array, candidates: Array) -> Array:
    """Dot products of users[rows] (B, d) with items[candidates] (B, N): float64 (B, N)."""
    if candidates.shape[0] > 1 and candidates.strides[0] == 0:  # the same candidates for all rows
        return users[rows] @ items[candidates[0]].T
    return np.stack([items[each] @ users[row] for row, each in zip(rows, candidates, strict=True)])
