"""Stable rank and ReSN: closed forms, dense formulas, and where in training they act."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssmrec.training import train_run
from ssmrec.training.regularise import Regulariser, regulariser, resn, stable_rank


def random_rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, dtype=torch.float64, generator=generator)


def test_stable_rank_of_a_line_and_of_all_directions():
    line = random_rows(9, 1) * torch.ones(1, 6)  # lengths and signs differ, the line does not
    assert stable_rank(line).item() == pytest.approx(1 / 6)
    assert stable_rank(5 * torch.eye(6).repeat(3, 1)).item() == pytest.approx(1)


def test_stable_rank_is_its_formula_with_its_gradient():
    rows = random_rows(20, 5).requires_grad_()
    unit = (rows / rows.norm(dim=1, keepdim=True)).detach().numpy()
    want = 20 / np.linalg.norm(unit, 2) ** 2 / 5
    assert stable_rank(rows).item() == pytest.approx(want)
    assert torch.autograd.gradcheck(stable_rank, rows)


def test_resn_is_the_square_of_the_dense_scores_along_their_mean_direction():
    users, items = random_rows(7, 4).requires_grad_(), random_rows(11, 4, 1).requires_grad_()
    y = users @ items.T
    q = F.normalize(y.detach().sum(0), dim=0)
    want = (y @ q).pow(2).mean()
    found = resn(users, items)
    torch.testing.assert_close(found, want)
    grads = (torch.autograd.grad(value, (users, items)) for value in (found, want))
    for got, right in zip(*grads, strict=True):
        torch.testing.assert_close(got, right)


def test_resn_is_the_top_singular_value_when_that_direction_is_the_mean():
    """Scores a b' with a = (1, 1): one singular value, |a| |b|; the mean over 2 users is its half."""
    users, items = torch.ones(2, 1), torch.tensor([[3.0], [4.0]])
    assert resn(users, items).item() == pytest.approx(2 * 25 / 2)


def test_weights_and_rows():
    users, items, positives = random_rows(7, 4), random_rows(11, 4, 1), torch.tensor([0, 5, 6])
    rank = stable_rank(users) + stable_rank(items[positives])
    found = Regulariser(0.4, 0.3)(users, items, positives)
    torch.testing.assert_close(found, -0.2 * rank + 0.3 * resn(users, items))


def test_stable_rank_acts_in_the_first_epochs_only(small):
    settings = small(train={"stable_rank": 0.5, "stable_rank_epochs": 2}).train
    assert regulariser(settings, 2) == Regulariser(0.5, 0.0)
    assert regulariser(settings, 3) is None
    assert regulariser(small(train={"resn": 0.1}).train, 99) == Regulariser(0.0, 0.1)


def test_training_spreads_the_vectors(small, tastes):
    """3 epochs with and without: the regularised vectors have the higher stable rank."""
    ranks = []
    for weight in (0.0, 5.0):
        train = {"epochs": 3, "stable_rank": weight, "protocol": "fixed"}
        trained = train_run(small(model={"name": "mf"}, train=train), tastes)
        ranks.append(stable_rank(trained.model.vectors().items.detach()).item())
    assert ranks[1] > ranks[0] + 0.05


def test_training_with_resn_flattens_the_leading_direction(small, tastes):
    """The share of the largest singular value in the scores is smaller with ReSN."""
    shares = []
    for weight in (0.0, 1.0):
        train = {"epochs": 6, "resn": weight, "protocol": "fixed"}
        trained = train_run(small(model={"name": "mf"}, loss={"name": "bpr"}, train=train), tastes)
        found = trained.model.vectors()
        values = torch.linalg.svdvals((found.users @ found.items.T).detach())
        shares.append((values[0] ** 2 / values.pow(2).sum()).item())
    assert shares[1] < shares[0]
