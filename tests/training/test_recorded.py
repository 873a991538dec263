"""Which steps a GPU may record; that recorded ones are equal is tested on a GPU (tests/cuda)."""

from __future__ import annotations

import pytest
import torch

from ssmrec.losses import LOSSES
from ssmrec.models import MODELS, Backbone
from ssmrec.models.lightgcn import LightGCN
from ssmrec.negatives import Batch, Negatives
from ssmrec.training.recorded import Shape, _recordable


def test_a_class_that_overrides_what_is_recorded_must_say_again_that_it_may_be():
    class Plain(LightGCN):
        pass

    class Changed(LightGCN):
        def vectors(self, users=None, items=None):
            return super().vectors(users, items)

    class Said(Changed):
        recordable = True

        def vectors(self, users=None, items=None):
            return super().vectors(users, items)

    found = [_recordable(cls.__new__(cls), "vectors") for cls in (Plain, Changed, Said)]
    assert found == [True, False, True]


def test_what_is_recorded():
    models = {name for name, cls in MODELS.items() if _recordable(cls.__new__(cls), "vectors")}
    plain = {name for name in models if MODELS[name].for_training is Backbone.for_training}
    assert plain == {"mf", "lightgcn", "svdpp"}
    losses = {name for name, cls in LOSSES.items() if _recordable(cls.__new__(cls), "fused")}
    assert losses == {"ssm", "softmax", "sce"}


@pytest.mark.parametrize(("pairs", "holds"), [(0, True), (4096, True), (4097, False)])
def test_a_recording_serves_what_fits_into_it(pairs, holds):
    batch = Batch(torch.zeros(8, dtype=torch.int64), torch.zeros(8, dtype=torch.int64))
    shape = Shape.of(batch, Negatives(None, None, torch.zeros(2, 2000, dtype=torch.int64)))
    assert shape == Shape(8, None, False, 4096)
    other = Shape.of(batch, Negatives(None))
    assert other.room == 0
    assert shape.holds(other, pairs) is holds
    assert not shape.holds(Shape.of(batch, Negatives(torch.arange(5))), 0)
    assert not shape.holds(Shape.of(batch, Negatives(None, torch.zeros(8))), 0)
