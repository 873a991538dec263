"""One training on the device and on the CPU: every loss, backbone and sampler, and the regularisers."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from cuda_device import (
    DEVICE,
    WITHIN_TWO_EPOCHS,
    assert_close,
    assert_equal,
    needs_device,
    settings,
    trained,
)
from ssmrec.losses import LOSSES
from ssmrec.models import MODELS
from ssmrec.negatives import SAMPLERS
from ssmrec.training import Trainer
from ssmrec.training.device import pick_device

pytestmark = needs_device

TRAINED = [name for name, cls in MODELS.items() if not cls.closed_form]
SMALLER = {
    "ahns": {"n": 2},
    "dns": {"n": 4},
    "mixed": {"n": 128},
    "tron": {"n": 20, "pool": 512},
    "uniform": {"n": 128},
    "popularity": {"n": 128, "log_q": True},
}


def compare(pairs, **layers) -> None:
    assert_close(trained(pairs, "cpu", **layers), trained(pairs, DEVICE, **layers))


@pytest.mark.skipif(DEVICE != "cuda", reason="not on CUDA")
def test_auto_takes_the_device():
    assert pick_device("auto").type == pick_device("cuda").type == "cuda"
    assert pick_device("cpu").type == "cpu"


@pytest.mark.parametrize("model", ["mf", "lightgcn"])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss(pairs, loss, model):
    compare(pairs, model={"name": model}, loss={"name": loss, **WITHIN_TWO_EPOCHS.get(loss, {})})


@pytest.mark.parametrize(
    "layers",
    [
        {"loss": {"name": "bsl", "mode": "multi"}},
        {"loss": {"name": "ssm", "similarity": "dot", "temperature": 1.0}},
        {"loss": {"name": "ssm", "prefixes": [8, 16]}},
        {"loss": {"name": "psl", "surrogate": "relu"}},
        {"loss": {"name": "mscl", "n_positives": 3}, "model": {"name": "simplex"}},
        {"loss": {"name": "dpl"}, "negatives": {"name": "uniform", "n": 64, "shared": True}},
    ],
    ids=["bsl-multi", "dot", "prefixes", "psl-relu", "mscl-simplex", "dpl-shared"],
)
def test_settings_of_losses(pairs, layers):
    compare(pairs, **layers)


@pytest.mark.parametrize("model", TRAINED)
def test_every_backbone(pairs, model):
    compare(pairs, model={"name": model})


@pytest.mark.parametrize(
    "model",
    [
        {"name": "lightgcn", "layers": 3},
        {"name": "lightgcn", "layers": 1, "alpha": [0.3, 0.8]},
        {"name": "lightgcn", "init": "spectral"},
        {"name": "lightgcn", "dim": 20},
        {"name": "svdpp", "side": "item", "alpha": [0.5, 0.5]},
        {"name": "svdpp", "side": "both"},
        {"name": "uipcmf", "l1": 0.01},
        {"name": "nescl", "mean": "out"},
        {"name": "xsimgcl", "layers": 3, "ssl_layer": 2},
    ],
    ids=lambda model: "-".join(map(str, model.values())),
)
def test_settings_of_backbones(pairs, model):
    compare(pairs, model=model)


@pytest.mark.parametrize("model", ["mf", "lightgcn"])
def test_the_last_batch_may_be_short(pairs, model):
    compare(pairs, model={"name": model}, train={"batch_size": 300})


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "given"])
def test_every_sampler(pairs, sampler):
    compare(pairs, negatives={"name": sampler, **SMALLER.get(sampler, {})})


@pytest.mark.parametrize(
    "negatives",
    [
        {"name": "in_batch", "exclude_known": False, "log_q": False},
        {"name": "uniform", "n": 16, "shared": False, "log_q": True},
        {"name": "popularity", "n": 16, "shared": False, "log_q": True},
        {"name": "all", "exclude_known": True},
        {"name": "tron", "n": 20, "pool": 512, "exclude_known": False},
    ],
    ids=["in-batch-plain", "uniform-own", "popularity-own", "all-unknown", "tron-known"],
)
@pytest.mark.parametrize("model", ["mf", "lightgcn"])
def test_settings_of_samplers(pairs, model, negatives):
    compare(pairs, model={"name": model}, negatives=negatives)


def test_given_negatives(pairs, tmp_path):
    frame = pairs.valid.frame()
    pl.DataFrame({"user": frame["user"], "item": frame["item"]}).write_csv(tmp_path / "skips.csv")
    compare(pairs, negatives={"name": "given", "path": str(tmp_path / "skips.csv")})


@pytest.mark.parametrize("model", ["mf", "lightgcn"])
@pytest.mark.parametrize("more", [{"stable_rank": 0.1}, {"resn": 0.01}, {"l2": 1e-2}])
def test_regularisers(pairs, model, more):
    compare(pairs, model={"name": model}, train=more)


def test_lazy_adam_and_linear_decay(pairs):
    compare(pairs, train={"optimizer": "lazy_adam", "lr_decay": "linear"})
    mawu = {"name": "mawu"}  # whose margins have dense gradients
    compare(pairs, loss=mawu, train={"optimizer": "lazy_adam"})


def test_dropout_is_drawn_on_the_device(pairs):
    """Its masks are those of the device's own generator, so that only the device repeats them."""
    model = {"name": "ngcf", "layers": 2, "dropout": 0.3}
    one, other = (trained(pairs, DEVICE, model=model) for _ in range(2))
    assert other.losses == pytest.approx(one.losses, rel=1e-5)
    assert trained(pairs, "cpu", model=model).losses == pytest.approx(one.losses, rel=0.02)
    assert one.end["model.drawn"][1] == 16  # steps


@pytest.mark.parametrize(
    "negatives", [{}, {"name": "uniform", "n": 100}], ids=["in-batch", "uniform"]
)
@pytest.mark.parametrize("model", ["mf", "lightgcn", "svdpp"])
def test_same_seed_same_bits(pairs, model, negatives):
    layers = {"model": {"name": model}, "negatives": negatives or {"name": "auto"}}
    layers["train"] = {"batch_size": 300}
    assert_equal(*(trained(pairs, DEVICE, **layers) for _ in range(2)))


def near(pairs, precision: str, **layers) -> None:
    """A training with rounded products is near the exact one of a CPU, and leaves nothing behind."""
    exact = trained(pairs, "cpu", **layers)
    more = {**layers, "train": {**layers.get("train", {}), "precision": precision}}
    found = trained(pairs, DEVICE, **more)
    assert found.losses == pytest.approx(exact.losses, rel=0.1, abs=0.01)
    assert all(tensor.isfinite().all() for tensor in found.end.values())
    kinds = {name: tensor.dtype for name, tensor in found.end.items()}
    assert kinds == {name: tensor.dtype for name, tensor in exact.end.items()}
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.is_autocast_enabled("cuda")


@pytest.mark.skipif(DEVICE != "cuda", reason="products are rounded on CUDA only")
class TestRoundedProducts:
    """`train.precision`."""

    @pytest.mark.parametrize("model", ["mf", "lightgcn", "ngcf"])
    def test_tf32(self, pairs, model):
        near(pairs, "tf32", model={"name": model})

    @pytest.mark.parametrize("loss", LOSSES)
    def test_bf16_of_losses(self, pairs, loss):
        near(pairs, "bf16", loss={"name": loss, **WITHIN_TWO_EPOCHS.get(loss, {})})

    @pytest.mark.parametrize("model", TRAINED)
    def test_bf16_of_backbones(self, pairs, model):
        near(pairs, "bf16", model={"name": model})

    @pytest.mark.parametrize("sampler", ["dns", "ahns", "tron"])
    def test_bf16_of_samplers_that_choose(self, pairs, sampler):
        near(pairs, "bf16", negatives={"name": sampler, **SMALLER[sampler]})

    def test_bf16_of_regularisers_and_lazy_adam(self, pairs):
        near(pairs, "bf16", train={"stable_rank": 0.1, "resn": 0.01})
        near(pairs, "bf16", train={"optimizer": "lazy_adam"})


def test_the_optimiser_and_the_loss_live_on_the_device(pairs):
    trainer = Trainer(settings(DEVICE, loss={"name": "adap_tau"}), pairs.train, 1)
    trainer.run()
    held = [*trainer.model.state_dict().values(), *trainer.loss.state_dict().values()]
    held += [x for state in trainer.optimizer.state.values() for x in state.values()]
    assert {tensor.device.type for tensor in held} == {DEVICE}
