"""Recorded steps against the same steps taken one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cuda_device import DEVICE, WITHIN_TWO_EPOCHS, needs_device, settings, tensors
from ssmrec.losses import LOSSES
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
OWN = {"name": "uniform", "n": 3, "shared": False}


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


def test_products_of_more_rows_are_as_good(pairs):
    """NGCF multiplies the filled up rows as well, in other blocks."""
    layers = {"model": {"name": "ngcf", "layers": 2}}
    trainer, losses, _ = run(pairs, True, **layers)
    assert trainer.recorder.shape is not None
    _, plain, _ = run(pairs, False, **layers)
    assert losses == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "invcf"])
@pytest.mark.parametrize("negatives", [{}, NEGATIVES[1], {"name": "mixed", "n": 64}, OWN], ids=str)
def test_every_loss(pairs, name, negatives):
    loss = {"name": name} | WITHIN_TWO_EPOCHS.get(name, {})
    layers = {"loss": loss, **({"negatives": negatives} if negatives else {})}
    trainer, losses, found = run(pairs, True, **layers)
    assert trainer.recorder.suits and trainer.recorder.shape is not None
    _, plain, wanted = run(pairs, False, **layers)
    # Sums by `index_add_` have no fixed order on a GPU.
    assert losses == pytest.approx(plain, rel=1e-4)
    for key, tensor in wanted.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.parametrize("negatives", [NEGATIVES[1], NEGATIVES[2], {"name": "mixed", "n": 64}])
@pytest.mark.parametrize("loss", ["ssm", "sl", "ccl"])
def test_known_items_are_those_a_cpu_finds(pairs, loss, negatives):
    layers = {"loss": {"name": loss}, "negatives": negatives}
    trainer, losses, _ = run(pairs, True, **layers)
    assert trainer.recorder.shape.known
    sought = Trainer(settings(DEVICE, **layers), pairs.train, 3)
    sought.sampler.device = None
    assert losses == pytest.approx([r["loss"] for r in sought.run().history], rel=1e-4)


@pytest.mark.parametrize(
    "train", [{"precision": "tf32"}, {"precision": "bf16"}, {"lr_decay": "linear"}, {"l2": 1e-3}]
)
def test_settings_of_the_training(pairs, train):
    layers = {"model": MODELS[1], "train": train}
    _, losses, found = run(pairs, True, **layers)
    _, plain, wanted = run(pairs, False, **layers)
    assert losses == plain
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize(
    "layers",
    [
        {"loss": {"name": "invcf"}},
        {"loss": {"name": "bsl", "mode": "multi"}},
        {"model": {"name": "simgcl"}},
        {"model": {"name": "ngcf", "dropout": 0.1}},
        {"negatives": {"name": "dns"}},
        {"train": {"optimizer": "lazy_adam"}},
    ],
)
def test_what_changes_from_step_to_step_is_not_recorded(pairs, layers):
    trainer, losses, _ = run(pairs, True, **layers)
    assert trainer.recorder.shape is None
    assert all(loss == loss for loss in losses)
