"""Recorded steps against the same steps taken one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cuda_device import DEVICE, needs_device, settings, tensors
from ssmrec.training import Trainer

pytestmark = [
    needs_device,
    pytest.mark.skipif(DEVICE != "cuda", reason="only a GPU records its work"),
]

MODELS = [
    {"name": "mf"}, {"name": "lightgcn", "layers": 1}, {"name": "lightgcn", "layers": 3},
    {"name": "svdpp"},
]  # fmt: skip
NEGATIVES = [
    {"name": "in_batch", "exclude_known": False, "log_q": False},
    {"name": "in_batch", "exclude_known": True, "log_q": True},
    {"name": "uniform", "n": 40, "log_q": True},
    {"name": "all"},
]


def run(split, recorded: bool, **layers):
    trainer = Trainer(settings(DEVICE, **layers), split.train, 3)
    trainer.recorder.suits &= recorded
    history = trainer.run().history
    return trainer, [record["loss"] for record in history], tensors(trainer)


@pytest.mark.parametrize("negatives", NEGATIVES, ids=lambda n: "-".join(map(str, n.values())))
@pytest.mark.parametrize("model", MODELS, ids=lambda m: "-".join(map(str, m.values())))
def test_equal_bits(pairs, model, negatives):
    # 4000 pairs: seven full batches of 512 and the rest of an epoch
    split = replace(pairs, train=pairs.train.take(np.arange(len(pairs.train)) < 4000))
    trainer, losses, found = run(split, True, model=model, negatives=negatives)
    assert trainer.recorder.shape is not None and trainer.recorder.shape.batch == 512
    _, plain, wanted = run(split, False, model=model, negatives=negatives)
    assert losses == plain
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_rounded_products_are_recorded_as_well(pairs, precision):
    layers = {"model": MODELS[1], "train": {"precision": precision}}
    _, losses, found = run(pairs, True, **layers)
    _, plain, wanted = run(pairs, False, **layers)
    assert losses == plain
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize(
    "layers",
    [
        {"loss": {"name": "bpr"}},
        {"model": {"name": "simgcl"}},
        {"negatives": {"name": "uniform", "n": 4, "shared": False}},
        {"train": {"optimizer": "lazy_adam"}},
    ],
)
def test_what_changes_from_step_to_step_is_not_recorded(pairs, layers):
    trainer, losses, _ = run(pairs, True, **layers)
    assert trainer.recorder.shape is None
    assert all(loss == loss for loss in losses)
