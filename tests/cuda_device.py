"""What the tests of tests/cuda share: the device, and one training on two devices."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from ssmrec.config import merged
from ssmrec.data import Split
from ssmrec.models import MODELS
from ssmrec.training import RunConfig, Trainer, resolve

DEVICE = os.environ.get("SSMREC_TEST_DEVICE", "cuda")
"""With `SSMREC_TEST_DEVICE=cpu` the tests run without a GPU: this tries the tests, not the device."""

needs_device = pytest.mark.skipif(
    DEVICE == "cuda" and not torch.cuda.is_available(), reason="no CUDA device"
)

APART = 0.01
"""Most that two trainings may lie apart, as a part of how far they came: sums have another order, and
Adam's first steps follow the sign of gradients that are nearly zero."""

WITHIN_TWO_EPOCHS = {
    "adap_tau": {"warm_epochs": 1},
    "advinfonce": {"adv_every": 2},
    "bc": {"bias_epochs": 1},
    "mscl": {"n_positives": 3},
    "sl_at_k": {"refresh": 1},
}
"""Settings under which all of a loss acts in two epochs."""

_SMALL = {
    "train": {
        "protocol": "fixed", "epochs": 2, "batch_size": 512, "lr": 0.005, "metric": "ndcg@5",
        "threads": 1,
    },
    "evaluation": {"metrics": ["recall", "ndcg"], "ks": [5, 20]},
}  # fmt: skip


def settings(device: str, **layers: Any) -> RunConfig:
    """Resolved settings of a quick run on a device; mf unless `model` says otherwise."""
    model = {"name": "mf", **layers.pop("model", {})}
    if "dim" in MODELS[model["name"]].Config.model_fields:
        model = {"dim": 16, **model}
    return resolve(merged(_SMALL, {"model": model}, layers, {"train": {"device": device}}))


@dataclass(frozen=True)
class Outcome:
    """A training: mean losses of its epochs, and tensors of model and loss before and after, on a CPU."""

    losses: list[float]
    start: dict[str, Tensor]
    end: dict[str, Tensor]
    trainer: Trainer


def trained(split: Split, device: str, epochs: int = 2, **layers: Any) -> Outcome:
    """Train on `split.train` without validation."""
    trainer = Trainer(settings(device, **layers), split.train, epochs)
    assert trainer.device.type == device
    start = tensors(trainer)
    losses = [record["loss"] for record in trainer.run().history]
    assert len(losses) == epochs
    return Outcome(losses, start, tensors(trainer), trainer)


def tensors(trainer: Trainer) -> dict[str, Tensor]:
    """All that model and loss hold, on a CPU."""
    return {
        f"{part}.{name}": tensor.detach().cpu().clone()
        for part, module in (("model", trainer.model), ("loss", trainer.loss))
        for name, tensor in module.state_dict().items()
    }


def assert_close(one: Outcome, other: Outcome) -> None:
    """Equal starts, losses within 1e-3 of each other, and ends `APART` of the way at most."""
    assert other.losses == pytest.approx(one.losses, rel=1e-3, abs=1e-4)
    assert one.end.keys() == other.end.keys()
    for name, end in one.end.items():
        start, found = one.start[name], other.end[name]
        assert torch.equal(start, other.start[name]), f"{name}: the starts differ"
        if not end.is_floating_point():
            assert torch.equal(end, found), name
            continue
        assert found.isfinite().all(), name
        way, apart = (float((x - end).double().norm()) for x in (start, found))
        assert apart <= APART * way + 1e-6, f"{name}: {apart:.3g} apart after a way of {way:.3g}"


def assert_equal(one: Outcome, other: Outcome) -> None:
    """The same bits."""
    assert one.losses == other.losses
    for name, end in one.end.items():
        assert torch.equal(end, other.end[name]), name
