"""What losses keep beyond a step: tables of popularity, thresholds, temperatures, own positives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import lambertw
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ssmrec.losses import Context, psl
from ssmrec.losses.adaptive import lambert_w
from ssmrec.losses.psl import kth_largest
from ssmrec.models import Vectors
from ssmrec.negatives import Batch
from ssmrec.testing import toy


def some_vectors(n_users=12, n_items=30, seed=0) -> Vectors:
    generator = torch.Generator().manual_seed(seed)
    users, items = (torch.randn(n, 4, generator=generator) for n in (n_users, n_items))
    return Vectors(users, items, users, items)


def test_lambert_w_is_that_of_scipy():
    x = torch.cat([torch.linspace(-1 / math.e, 1, 200), torch.logspace(0, 3, 50)]).double()
    x = x.clamp_min(-1 / math.e)
    got, want = lambert_w(x).numpy(), np.nan_to_num(lambertw(x.numpy()).real, nan=-1.0)
    np.testing.assert_allclose(got[1:], want[1:], rtol=1e-9, atol=1e-9)
    assert got[0] == pytest.approx(-1, abs=1e-6)  # the branch point
    assert lambert_w(torch.tensor([0.0, math.e]).double()).tolist() == pytest.approx([0, 1])


def test_adap_tau_common_weight(attached, make_interactions):
    """Degrees 1, 2, 2, 3: the lowest lies below the quantile, so m = 3, |D'| = 7, n = 40."""
    mask = np.zeros((4, 40), dtype=bool)
    for user, items in enumerate(([0], [1, 2], [2, 3], [3, 4, 5])):
        mask[user, items] = True
    loss = attached("adap_tau", make_interactions(mask), warm_epochs=1, quantile=0.3)
    vectors = some_vectors(4, 40)
    loss.before_epoch(1, lambda: pytest.fail("no vectors are needed while warm"))
    ratio = math.log(3 * 40 / 14)
    assert loss.w0.item() == pytest.approx(ratio / 0.7)
    loss.before_epoch(2, lambda: vectors)
    cosine = (F.normalize(vectors.users, dim=1) @ F.normalize(vectors.items, dim=1).T).numpy()
    gap = cosine[1:][mask[1:]].mean() - cosine[1:].mean()
    assert loss.w0.item() == pytest.approx(max(ratio / max(gap, 0.01), 1), rel=1e-5)


def test_adap_tau_weights_of_users(attached):
    """Mean losses 1 and 3 around 2, beta 2: excess -0.5 (clipped to -1/e) and 0.5."""
    loss = attached("adap_tau", beta=2.0)
    loss.total[[4, 6]], loss.count[[4, 6]] = torch.tensor([2.0, 3.0]), torch.tensor([2.0, 1.0])
    loss.before_epoch(5, some_vectors)
    w0, weight = loss.w0.item(), loss.weight
    assert weight[4].item() == pytest.approx(w0 * math.e, rel=1e-5)  # W(-1/e) = -1
    assert weight[6].item() == pytest.approx(w0 * math.exp(-lambertw(0.5).real), rel=1e-5)
    others = torch.tensor([user for user in range(12) if user not in (4, 6)])
    torch.testing.assert_close(weight[others], loss.w0.expand(10))
    assert not loss.total.any() and not loss.count.any()  # a new epoch begins
    common = attached("adap_tau", per_user=False)
    common.total[4], common.count[4] = 9.0, 1.0
    common.before_epoch(5, some_vectors)
    torch.testing.assert_close(common.weight, common.w0.expand(12))


@pytest.mark.parametrize("k", [1, 3, 40])
def test_kth_largest_is_that_of_a_sort(k, monkeypatch):
    train, vectors = toy(), some_vectors()
    drawn = np.array([29, 3, 3, 17, 8, 0])
    width = int(np.quantile(train.user_degrees[train.user_degrees > 0], 0.9))
    scores = (vectors.users @ vectors.items.T).numpy()
    want = []
    for user in range(12):
        own = train.indices[train.indptr[user] : train.indptr[user + 1]]
        pool = [*own[:width], *np.setdiff1d(drawn, own)]
        want.append(np.sort(scores[user, pool])[::-1][: min(k, len(pool))][-1])
    for users in (5, 1024):  # at once
        monkeypatch.setattr(psl, "_GATHERED", users * width * 4)
        got = kth_largest(vectors.users, vectors.items, train, drawn, k)
        np.testing.assert_allclose(got, want, rtol=1e-5)


class Largest(TorchDispatchMode):
    """Notes the numbers in the largest tensor that is made."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.numbers = max(self.numbers, made.numel())
        return made


def test_kth_largest_holds_few_vectors_at_once():
    """600 users of about 120 items each and 256 numbers: 18 million if all were gathered."""
    train, vectors = toy(600, 400), some_vectors(600, 400).users.repeat(1, 64)
    items = some_vectors(600, 400).items.repeat(1, 64)
    with Largest() as seen:
        kth_largest(vectors, items, train, np.arange(50), 3)
    assert 2**22 < seen.numbers <= 2**23


def test_sl_at_k_refreshes_its_thresholds_when_due(attached):
    loss = attached("sl_at_k", refresh=2, k=3, sampled=10)
    loss.before_epoch(1, some_vectors)
    first = loss.threshold.clone()
    loss.before_epoch(2, lambda: pytest.fail("not due"))
    assert torch.equal(loss.threshold, first) and first.any()
    loss.before_epoch(3, lambda: some_vectors(seed=1))
    assert not torch.equal(loss.threshold, first)
    assert first.abs().max() <= 1  # cosines, whatever the lengths


def test_other_positives_are_others(attached):
    """Drawn uniformly from the user's other items; a user's only item stands for itself."""
    train = toy()
    loss = attached("dpl", n_positives=200)
    degrees = train.user_degrees
    at = np.array([0, 5, int(train.indptr[1]), int(train.indptr[2]) - 1, len(train) - 1])
    batch = Batch(
        torch.from_numpy(train.rows[at]).long(), torch.from_numpy(train.indices[at]).long()
    )
    drawn = loss.more_items(batch, np.random.default_rng(0)).numpy()
    for user, item, found in zip(batch.users.tolist(), batch.items.tolist(), drawn, strict=True):
        own = set(train.indices[train.indptr[user] : train.indptr[user + 1]].tolist())
        assert set(found) <= own
        if len(own) > 1:
            assert item not in found and (len(own) > 12 or set(found) == own - {item})
    assert (degrees[batch.users.numpy()] > 1).any()


def test_only_item_of_a_user(attached, make_interactions):
    loss = attached("dpl", make_interactions(np.array([[0, 1, 0], [1, 0, 1]])), n_positives=2)
    batch = Batch(torch.tensor([0, 1]), torch.tensor([1, 0]))
    drawn = loss.more_items(batch, np.random.default_rng(0))
    assert drawn.tolist() == [[1, 1], [2, 2]] and loss.alone.tolist() == [True, False]
    assert attached("mscl").more_items(batch, np.random.default_rng(0)) is None


def test_mawu_margins_stay_in_0_to_1(attached):
    loss = attached("mawu")
    with torch.no_grad():
        loss.user_margin.copy_(torch.linspace(-1, 2, 12))
        loss.after_step()
    assert loss.user_margin.min() == 0 and loss.user_margin.max() == 1


def test_bc_branch_has_one_vector_a_degree(attached, context):
    train = toy()
    loss = attached("bc", bias_dim=3)
    assert loss.user_bias.shape == (len(set(train.user_degrees.tolist())), 3)
    same_degree = np.flatnonzero(train.item_degrees == train.item_degrees[3])
    assert len(set(loss.item_level[same_degree].tolist())) == 1
    loss.before_epoch(1, some_vectors)
    assert not loss.trains_model
    pos, neg = torch.zeros(5, requires_grad=True), torch.zeros(5, 7, requires_grad=True)
    asked = context(5, 7)
    value = loss(pos, neg, context=asked)
    logits = F.normalize(loss.user_bias, dim=1) @ F.normalize(loss.item_bias, dim=1).T / 0.1
    rows = logits[loss.user_level[asked.users]][:, loss.item_level]
    both = torch.cat([rows.gather(1, asked.items[:, None]), rows[:, asked.negatives]], dim=1)
    torch.testing.assert_close(value, -both.log_softmax(1)[:, 0])
    value.sum().backward()
    assert pos.grad is None and loss.user_bias.grad.any()
    loss.before_epoch(6, some_vectors)
    loss.zero_grad()
    assert loss.trains_model
    loss(pos, neg, context=asked).sum().backward()
    assert pos.grad.any() and loss.user_bias.grad is None


def test_advinfonce_tables_ascend_in_their_epochs_only(attached, logits, context):
    loss = attached("advinfonce", adv_every=3, adv_epochs=2, hardness_dim=4).double()
    stands = []
    for epoch in range(1, 13):
        loss.before_epoch(epoch, some_vectors)
        stands += [] if loss.trains_model else [epoch]
    assert stands == [3, 6]
    (pos, neg), asked = logits(), context(6, 9)
    loss.before_epoch(1, some_vectors)
    before = loss(pos, neg, context=asked).sum()
    before.backward()
    assert pos.grad.any() and loss.hard_users.grad is None
    loss.before_epoch(3, some_vectors)
    grad = torch.autograd.grad(loss(pos, neg, context=asked).sum(), list(loss.parameters()))
    with torch.no_grad():  # a step of descent along the reported gradient
        for parameter, slope in zip(loss.parameters(), grad, strict=True):
            parameter -= 1e-3 * slope
    assert loss(pos, neg, context=asked).sum() > before
    (group,) = loss.parameter_groups()
    assert group["lr"] == 5e-5 and len(group["params"]) == 2


def test_masked_negatives_have_no_adversarial_weight(attached):
    loss = attached("advinfonce", hardness_dim=4)
    asked = Context(torch.tensor([1, 2]), torch.tensor([0, 0]), torch.arange(5))
    mask = torch.tensor([[False, True, False, False, True], [True] * 5])
    p = loss.log_weights(asked, mask).exp()
    torch.testing.assert_close(p[0].masked_fill(mask[0], 0).sum(), torch.tensor(1.0))
