"""The public battery must catch broken parts, each by its message."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ssmrec.losses import SampledSoftmax
from ssmrec.models import MF, LightGCN, Vectors
from ssmrec.negatives import Batch, InBatch, Negatives, Uniform
from ssmrec.testing import check_backbone, check_loss, check_sampler, toy


class MeanLoss(SampledSoftmax):
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs).mean()


class Overflows(SampledSoftmax):
    def forward(self, pos_logits, neg_logits, log_q=None, mask=None):
        e = neg_logits.exp() if mask is None else neg_logits.exp().masked_fill(mask, 0)
        return (pos_logits.exp() + e.sum(1)).log() - pos_logits


class SumsInHalf(SampledSoftmax):
    """A sum of exponentials in the dtype of the logits."""

    def forward(self, pos_logits, neg_logits, log_q=None, mask=None):
        if pos_logits.dtype != torch.bfloat16:
            return super().forward(pos_logits, neg_logits, log_q, mask)
        negatives = neg_logits if log_q is None else (neg_logits - log_q).bfloat16()
        negatives = negatives if mask is None else negatives.masked_fill(mask, -torch.inf)
        both = torch.cat([pos_logits[:, None], negatives], dim=1)
        peak, total = both.detach().amax(1), torch.zeros_like(pos_logits)
        for column in both.T:
            total = total + (column - peak).exp()
        return total.log() + peak - pos_logits


class IgnoresMask(SampledSoftmax):
    def forward(self, pos_logits, neg_logits, log_q=None, mask=None):
        return super().forward(pos_logits, neg_logits, log_q)


class FirstIsHeavier(SampledSoftmax):
    def forward(self, pos_logits, neg_logits, log_q=None, mask=None):
        extra = torch.zeros_like(neg_logits)
        extra[:, :1] = 1
        return super().forward(pos_logits, neg_logits + extra, log_q, mask)


class WrongFused(SampledSoftmax):
    @staticmethod
    def fused(u, pos, neg, log_q, masked, in_batch):
        return SampledSoftmax.fused(u, pos, neg, None, masked, in_batch)


class MasksPairsOnly(SampledSoftmax):
    @staticmethod
    def fused(u, pos, neg, log_q, masked, in_batch):
        pairs = masked if masked.dtype == torch.int64 else None
        return SampledSoftmax.fused(u, pos, neg, log_q, pairs, in_batch)


class CutGradient(SampledSoftmax):
    def forward(self, pos_logits, neg_logits, log_q=None, mask=None):
        return super().forward(pos_logits.detach(), neg_logits, log_q, mask)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (MeanLoss, "not one value per row"),
        (Overflows, "not finite"),
        (SumsInHalf, "bfloat16 logits move the loss"),
        (IgnoresMask, "masked negatives change the loss"),
        (FirstIsHeavier, "order of the negatives"),
        (WrongFused, "fused and plain values differ"),
        (MasksPairsOnly, "fused and plain values differ at temperature .*, masked by a mask"),
        (CutGradient, "gradient disagrees with finite differences"),
    ],
)
def test_broken_losses_are_caught(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_loss(cls)


class OwnGenerator(Uniform):
    def draw(self, batch, generator):
        return super().draw(batch, np.random.default_rng())


class Beyond(Uniform):
    def draw(self, batch, generator):
        return Negatives(super().draw(batch, generator).ids + 1)


class ShortLogQ(Uniform):
    def draw(self, batch, generator):
        return dataclasses.replace(super().draw(batch, generator), log_q=torch.zeros(3))


class Unsorted(InBatch):
    def draw(self, batch, generator):
        rows = torch.arange(len(batch)).flip(0)
        return Negatives(None, None, torch.stack([rows, rows]))


class NeverMasks(Uniform):
    def draw(self, batch, generator):
        return dataclasses.replace(super().draw(batch, generator), masked=None)


class Changes(Uniform):
    def draw(self, batch, generator):
        self.train.indices[:] = 0
        return super().draw(batch, generator)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (OwnGenerator, "equal generator states gave different ids"),
        (Beyond, "beyond the catalogue"),
        (ShortLogQ, "shape of ids"),
        (Unsorted, "not sorted"),
        (NeverMasks, "exclude_known is on"),
        (Changes, "changed the training data|exclude_known"),
    ],
)
def test_broken_samplers_are_caught(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_sampler(cls)


class AllRows(MF):
    def vectors(self, users=None, items=None):
        return super().vectors()


class GlobalSeed(MF):
    def __init__(self, config, train, generator):
        super().__init__(config, train, generator)
        torch.nn.init.normal_(self.table)


class Detached(LightGCN):
    def vectors(self, users=None, items=None):
        found = super().vectors(users, items)
        if users is None or items is None:
            return found
        return Vectors(found.users.detach(), found.items, found.ego_users, found.ego_items)


class Hidden(MF):
    """Keeps a factor outside the state dict."""

    def __init__(self, config, train, generator):
        super().__init__(config, train, generator)
        self.factor = torch.rand(1, generator=generator)

    def vectors(self, users=None, items=None):
        found = super().vectors(users, items)
        return dataclasses.replace(found, users=found.users * self.factor)


class Frozen(MF):
    def vectors(self, users=None, items=None):
        found = super().vectors(users, items)
        return dataclasses.replace(found, users=found.users * 1e-6)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (AllRows, "rows than those asked for"),
        (GlobalSeed, "different initial weights"),
        (Detached, "gradients through"),
        (Hidden, "after load_state_dict"),
        (Frozen, "does not learn"),
    ],
)
def test_broken_backbones_are_caught(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_backbone(cls)


def test_settings_reach_the_part():
    class Small(MF):
        def vectors(self, users=None, items=None):
            assert self.table.shape[1] == 8, "dim did not arrive"
            return super().vectors(users, items)

    check_backbone(Small, dim=8)


def test_toy_has_the_awkward_cases():
    train = toy()
    assert (train.n_users, train.n_items) == (12, 30)
    assert train.user_degrees[0] == 29 and train.user_degrees[-1] == 0
    assert train.item_degrees[-1] == 0 and (train.item_degrees[:-1] > 0).all()
    assert toy().fingerprint == train.fingerprint != toy(seed=1).fingerprint
    assert len(Batch(torch.arange(3), torch.arange(3))) == 3
