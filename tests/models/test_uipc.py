"""UIPC-MF by its formula, and its L1 term."""

from __future__ import annotations

import numpy as np
import torch

from ssmrec.config import build
from ssmrec.models import UIPCMF
from ssmrec.testing import toy


def make(**settings):
    values = {"dim": 5, "user_prototypes": 3, "item_prototypes": 4, **settings}
    return UIPCMF(build(UIPCMF.Config, values, "model"), toy(), torch.Generator().manual_seed(0))


def test_scores_are_the_formula():
    model = make()
    found = model.vectors()
    e, p, q, c = (x.detach().double().numpy() for x in (
        model.table, model.user_prototypes, model.item_prototypes, model.links))  # fmt: skip

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    scores = (found.users @ found.items.T).detach().numpy()
    for user, item in ((0, 0), (7, 3), (11, 29)):
        a = np.array([1 + cosine(e[user], row) for row in p])
        b = np.array([1 + cosine(e[12 + item], row) for row in q])
        np.testing.assert_allclose(scores[user, item], a @ c @ b, rtol=1e-4)


def test_autocast_rounds_the_products_alone():
    """Vectors stay float32: 1 + cosine in bfloat16 would hold the cosine in steps of 1/128."""
    model = make()
    whole = model.vectors()
    with torch.autocast("cpu", torch.bfloat16):
        found = model.vectors()
    assert found.users.dtype == found.items.dtype == torch.float32
    torch.testing.assert_close(found.items, whole.items, rtol=0, atol=0.01)


def test_l1_is_the_mean_absolute_weight_of_the_batch():
    model, users, items = make(l1=0.5), torch.tensor([2, 9]), torch.tensor([1])
    found, term = model.for_training(users, items, torch.tensor([0]), torch.Generator())
    assert term is not None
    torch.testing.assert_close(term, 0.5 * model.vectors().users[users].abs().mean())
    _, nothing = make().for_training(users, items, torch.tensor([0]), torch.Generator())
    assert nothing is None and found.items.shape == (1, 4)
