"""Does this backbone keep its contract?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssmrec.config import build
from ssmrec.data import Interactions
from ssmrec.models import Backbone, Vectors
from ssmrec.testing.data import gradient, toy


def check_backbone(cls: type[Backbone], **settings: Any) -> None:
    """Rows, gradients, seeds and learning of a backbone; `settings` are those of its `Config`.

    Raises:
        AssertionError: the backbone breaks the contract of `ssmrec.models.Backbone`.
    """
    train = toy()
    config = build(cls.Config, settings, "model")

    def make(seed: int) -> Backbone:
        torch.manual_seed(int(np.random.default_rng().integers(2**31)))  # must not matter
        return cls(config, train, torch.Generator().manual_seed(seed))

    model = make(0)
    users, items = torch.tensor([7, 0, 11]), torch.tensor([3, 29, 0, 12])
    if cls.closed_form:
        _solves(make, train, users, items)
        return
    full = model.vectors()
    _same_rows(full, model.vectors(users, items), users, items)
    _same_rows(full, model.vectors(users=users), users, torch.arange(train.n_items))
    _same_rows(full, model.vectors(items=items), torch.arange(train.n_users), items)
    _same_rows(full, _whole(model.layers(users, items)), users, items)
    sizes = len(full.users), len(full.items)
    assert sizes == (12, 30), "vectors() must give a row for every user and item, cold ones too"
    _same_gradients(model, users, items)
    _trains(model, users, items)
    for mine, other in zip(model.parameters(), make(0).parameters(), strict=True):
        assert torch.equal(mine, other), "equal generators gave different initial weights"
    stranger = make(1)
    stranger.load_state_dict(model.state_dict())
    assert torch.equal(stranger.vectors().users, full.users), "vectors differ after load_state_dict"
    _learns(model, train)


def _same_rows(full: Vectors, part: Vectors, users: Tensor, items: Tensor) -> None:
    for name, rows in (("users", users), ("items", items)):
        for side in (name, f"ego_{name}"):
            want, got = getattr(full, side)[rows], getattr(part, side)
            assert got.shape == want.shape, f"{side}: vectors of other rows than those asked for"
            assert got.isfinite().all(), f"{side}: vectors are not finite"
            same = torch.allclose(got, want, rtol=1e-4, atol=1e-6)
            assert same, f"{side}: vectors(users, items) and vectors() differ"


def _whole(layers: Vectors) -> Vectors:
    return replace(layers, users=layers.users.sum(1), items=layers.items.sum(1))


def _same_gradients(model: Backbone, users: Tensor, items: Tensor) -> None:
    def gradients(found: Vectors, user_at: Any, item_at: Any) -> list[Tensor]:
        value = found.users[user_at].sin().sum() + found.items[item_at].cos().sum()
        value = value + found.ego_users[user_at].pow(2).sum() + found.ego_items[item_at].sum()
        return gradient(value, *model.parameters())

    part = gradients(model.vectors(users, items), slice(None), slice(None))
    for one, other in zip(part, gradients(model.vectors(), users, items), strict=True):
        close = torch.allclose(one, other, rtol=1e-3, atol=1e-5)
        assert close, "gradients through vectors(users, items) and vectors() differ"


def _trains(model: Backbone, users: Tensor, items: Tensor) -> None:
    """`for_training`: shapes, repeatability, a finite gradient."""
    positives, shape = torch.tensor([0, 2]), model.vectors(users, items).users.shape[1]
    values = []
    for _ in range(2):
        model.before_epoch(1, torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(2)
        found, added = model.for_training(users, items, positives, generator)
        assert found.users.shape == (3, shape), "for_training: not one row for each user asked for"
        assert found.items.shape == (4, shape), "for_training: not one row for each item asked for"
        value = found.users.sin().sum() + found.items.cos().sum()
        assert added is None or added.dim() == 0, "for_training must add a scalar"
        values.append(value if added is None else value + added)
    assert bool(values[0].isfinite()), "for_training: not finite"
    if not getattr(model.config, "dropout", 0):  # masks may come from a stream of the model's own
        assert torch.equal(*values), "equal generators gave different training vectors"
    finite = all(bool(grad.isfinite().all()) for grad in gradient(values[0], *model.parameters()))
    assert finite, "for_training: the gradient is not finite"


def _solves(make: Any, train: Interactions, users: Tensor, items: Tensor) -> None:
    """A closed form: equal generators solve alike, the state holds all, known pairs score higher."""
    model, again, loaded = make(0), make(0), make(1)
    with torch.no_grad():
        model.solve()
        again.solve()
    loaded.load_state_dict(model.state_dict())
    scores, *others = (_all_scores(m.vectors()) for m in (model, again, loaded))
    assert scores.shape == (12, 30), "vectors() must give a row for every user and item"
    assert scores.isfinite().all(), "scores are not finite"
    assert torch.equal(scores, others[0]), "equal generators gave different solutions"
    assert torch.equal(scores, others[1]), "scores differ after load_state_dict"
    part = _all_scores(model.vectors(users, items))
    close = torch.allclose(part, scores[users][:, items], rtol=1e-4, atol=1e-6)
    assert close, "vectors(users, items) and vectors() differ"
    known = torch.zeros(12, 30, dtype=torch.bool)
    known[torch.from_numpy(train.rows).long(), torch.from_numpy(train.indices).long()] = True
    higher = scores[1:11][known[1:11]].mean() > scores[1:11][~known[1:11]].mean()
    assert higher, "does not learn: known pairs score no higher than the others"


def _all_scores(found: Vectors) -> Tensor:
    dense = found.users.to_dense()
    return dense.float() @ found.items.T.float()


def _learns(model: Backbone, train: Interactions) -> None:
    """Softmax over all items on the toy data: the loss must fall well below a fair guess."""
    first = int(train.indptr[1])  # user 0 has everything, so there is nothing to learn of him
    best = float(np.log(train.user_degrees[train.rows[first:]]).mean())
    users, items = (torch.from_numpy(x[first:]).long() for x in (train.rows, train.indices))
    chance, reached = float(np.log(train.n_items)), float("inf")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        found = model.vectors()
        loss = F.cross_entropy(found.users[users] @ found.items.T, items)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        reached = loss.item()
    assert reached < (best + chance) / 2, (
        f"does not learn: loss {reached:.2f} on toy data, chance {chance:.2f}, best {best:.2f}"
    )
