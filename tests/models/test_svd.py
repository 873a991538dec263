"""The closed-form SVD model against numpy's decomposition, and through a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ssmrec
from ssmrec.config import build
from ssmrec.models import SVD
from ssmrec.testing import check_backbone, toy


def solved(train, **settings):
    model = SVD(build(SVD.Config, settings, "model"), train, torch.Generator().manual_seed(0))
    model.solve()
    return model.vectors()


@pytest.mark.parametrize("exponent", [0.0, 0.375, 0.5])
def test_scores_are_those_of_the_truncated_decomposition(exponent):
    train = toy()
    rows = np.zeros((train.n_users, train.n_items))
    rows[train.rows, train.indices] = 1
    user, item = (np.maximum(rows.sum(axis), 1) for axis in (1, 0))
    normal = rows / np.sqrt(user)[:, None] / np.sqrt(item)
    u, s, v = np.linalg.svd(normal, full_matrices=False)
    want = (u[:, :3] * s[:3]) @ v[:3] * item**exponent * (rows.sum(0) > 0)
    found = solved(train, dim=3, item_exponent=exponent, iterations=40)
    np.testing.assert_allclose(found.users @ found.items.T, want, atol=1e-5)


def test_more_dimensions_than_the_matrix_has_are_zero():
    found = solved(toy(), dim=40)
    assert torch.isfinite(found.users).all() and torch.isfinite(found.items).all()
    assert not found.users[:, 12:].any() and not found.items[:, 12:].any()


def test_battery():
    check_backbone(SVD)


def test_runs_without_epochs_and_beats_popularity():
    split = ssmrec.split(ssmrec.load("online-retail"))
    model = ssmrec.Recommender({"name": "svd", "dim": 64}).fit(split.train, progress=False)
    assert model.evaluate(split.test).values["ndcg@20"] > 0.06  # most popular: 0.037
