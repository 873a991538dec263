"""Which steps a GPU may record; that recorded ones are equal is tested on a GPU (tests/cuda)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cuda_device import WITHIN_TWO_EPOCHS, settings, tensors
from ssmrec.data import synthetic
from ssmrec.losses import LOSSES
from ssmrec.models import MODELS, Backbone
from ssmrec.models.lightgcn import LightGCN
from ssmrec.negatives import SAMPLERS, Batch, Negatives
from ssmrec.training import Trainer, rows
from ssmrec.training.recorded import Recorder, Shape, recordable


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

    found = [recordable(cls.__new__(cls)) for cls in (Plain, Changed, Said)]
    assert found == [True, False, True]


@pytest.mark.parametrize("hook", ["before_epoch", "after_step"])
def test_a_loss_whose_numbers_change_must_say_again_that_it_may_be_recorded(hook):
    """A recording would go on with the hardness it was made with."""
    config = LOSSES["hcl"].Config()
    harder = lambda self, *_: setattr(self, "hardness", self.hardness + 1)  # noqa: E731
    cls = type("Curriculum", (LOSSES["hcl"],), {hook: harder})
    assert recordable(LOSSES["hcl"](config)) and not recordable(cls(config))
    assert recordable(type("Said", (cls,), {hook: harder, "recordable": True})(config))
    graph = type("Redrawn", (LightGCN,), {"before_epoch": lambda self, epoch, generator: None})
    assert not recordable(graph.__new__(graph))


def test_what_is_recorded():
    models = {name for name, cls in MODELS.items() if recordable(cls.__new__(cls))}
    plain = {name for name in models if MODELS[name].for_training is Backbone.for_training}
    assert plain == {"mf", "lightgcn", "svdpp", "ngcf"}
    losses = {name for name, cls in LOSSES.items() if recordable(cls(cls.Config()))}
    assert set(LOSSES) - losses == {"invcf"}
    multi = LOSSES["bsl"].Config(mode="multi")
    assert not recordable(LOSSES["bsl"](multi))


class Forbidden(TorchDispatchMode):
    """Collects what a GPU cannot record: values read back, sizes that depend on them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__
        at = args[1] if name.startswith(("index.", "index_put")) else ()
        by_mask = any(getattr(x, "dtype", None) == torch.bool for x in at)
        if by_mask or name.partition(".")[0] in READ_BACK:
            self.found.add(name)
        return func(*args, **(kwargs or {}))


READ_BACK = (
    "_local_scalar_dense",
    "nonzero",
    "_unique2",
    "unique_dim",
    "bincount",
    "masked_select",
)
RECORDED = sorted(set(LOSSES) - {"invcf"})
NEGATIVES = [
    {},
    {"name": "in_batch", "exclude_known": True, "log_q": True},
    {"name": "mixed", "n": 16},
    {"name": "uniform", "n": 3, "shared": False},
]


def trained(train, epochs, in_buffers, weight_power=0.0, **layers):
    """A training on the CPU, with steps by the buffers of a recording or one by one."""
    steps = {"batch_size": 64, "weight_power": weight_power}
    trainer = Trainer(settings("cpu", train=steps, **layers), train, epochs)
    if in_buffers:
        trainer.recorder.suits, trainer.sampler.device = True, torch.device("cpu")
    trainer.run()
    return trainer


def assert_same(one, other):
    """Model and loss of two trainings, to the bit."""
    wanted = tensors(other)
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in tensors(one).items())


@pytest.mark.parametrize("negatives", NEGATIVES, ids=str)
@pytest.mark.parametrize("name", RECORDED)
def test_a_step_from_the_buffers_of_a_recording_is_the_step(name, negatives):
    train = synthetic(60, 50, 400, seed=1)
    layers = {"loss": {"name": name} | WITHIN_TWO_EPOCHS.get(name, {})} | (
        {"negatives": negatives} if negatives else {}
    )
    plain, ours = (trained(train, 3, kind, **layers) for kind in (False, True))
    assert ours.recorder.shape is not None
    assert [r["loss"] for r in ours.state.history] == [r["loss"] for r in plain.state.history]
    assert_same(ours, plain)


def test_the_weights_of_pairs_lie_in_the_buffers_of_a_recording():
    train = synthetic(60, 50, 400, seed=1)
    train = replace(train, weights=np.arange(1, len(train) + 1, dtype=np.float32))
    plain, ours, alike = (
        trained(train, 2, kind, power) for kind, power in ((False, 0.5), (True, 0.5), (False, 0))
    )
    assert ours.recorder.shape is not None and ours.recorder.shape.weighted
    assert_same(ours, plain)
    assert plain.state.history[-1]["loss"] != alike.state.history[-1]["loss"]


@pytest.mark.parametrize("name", RECORDED)
def test_nothing_is_read_back_in_a_step(name, monkeypatch):
    """By plain torch: the kernels of a CPU hand their numbers to numba."""
    monkeypatch.setattr(rows, "has_kernel", lambda vectors: False)
    train, negatives = synthetic(60, 50, 400, seed=1), NEGATIVES[1]
    trainer = trained(
        train, 7, True, loss={"name": name} | WITHIN_TWO_EPOCHS.get(name, {}), negatives=negatives
    )
    with Forbidden() as mode:
        trainer.recorder.replay()
    assert not mode.found


@pytest.mark.parametrize(
    "name",
    [name for name, cls in SAMPLERS.items() if "exclude_known" in cls.Config.model_fields],
)
def test_every_sampler_leaves_out_what_is_looked_up_where_the_scores_are(name):
    train = synthetic(60, 50, 400, seed=1)
    layers = {"negatives": {"name": name, "exclude_known": True}, "loss": {"name": "ssm"}}
    sought = trained(train, 2, False, **layers)
    ours = Trainer(settings("cpu", train={"batch_size": 64}, **layers), train, 2)
    ours.sampler.device = torch.device("cpu")
    ours.run()
    assert [r["loss"] for r in ours.state.history] == [r["loss"] for r in sought.state.history]
    assert_same(ours, sought)


def test_spare_rows_are_those_of_the_fewest_neighbours():
    train = synthetic(60, 50, 400, seed=1)
    ours = trained(train, 1, True, model={"name": "lightgcn"}, negatives=NEGATIVES[1])
    users, items = ours.recorder.sending.there[:128].split(64)
    assert users[-1] == train.user_degrees.argmin() != 0
    assert items[-1] == train.item_degrees.argmin() != 0


def test_known_items_are_looked_up_once_for_all_prefixes(monkeypatch):
    train, asked, look_up = synthetic(60, 50, 400, seed=1), [], Negatives.looked_up
    layers = {"loss": {"name": "ssm", "prefixes": [4, 8, 16]}, "negatives": NEGATIVES[1]}
    sought = trained(train, 1, False, **layers)
    monkeypatch.setattr(
        Negatives, "looked_up", lambda self, *ids: asked.append(1) or look_up(self, *ids)
    )
    ours = trained(train, 1, True, **layers)
    assert len(asked) == 7  # steps
    assert_same(ours, sought)


class Varied(SAMPLERS["in_batch"]):
    """Shared candidates, another number of them at each step, and log q in float64."""

    def draw(self, batch, generator):
        ids = torch.from_numpy(generator.integers(0, 50, generator.integers(5, 40)))
        return Negatives(ids, torch.full((len(ids),), -2.0, dtype=torch.float64))


def test_steps_no_two_of_which_are_alike_are_not_recorded_forever(monkeypatch):
    monkeypatch.setitem(SAMPLERS, "varied", Varied)
    made, record = [], Recorder._record
    monkeypatch.setattr(
        Recorder, "_record", lambda self, *step: made.append(1) or record(self, *step)
    )
    train = synthetic(60, 50, 400, seed=1)
    layers = {"negatives": {"name": "varied"}, "loss": {"name": "ssm"}}
    plain, ours = (trained(train, 9, kind, **layers) for kind in (False, True))
    assert len(made) == 32 and not ours.recorder.suits
    assert_same(ours, plain)


def test_masked_pairs_in_the_buffers_hide_what_they_name():
    train = synthetic(60, 50, 400, seed=1)
    layers = {"negatives": {"name": "all"}, "loss": {"name": "ccl"}}
    plain, ours = (trained(train, 3, kind, **layers) for kind in (False, True))
    assert ours.recorder.shape.room
    assert_same(ours, plain)


def test_a_part_that_cannot_be_recorded_is_told_and_trained(monkeypatch, caplog):
    def refused(self, *args):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Recorder, "_record", refused)
    train = synthetic(60, 50, 400, seed=1)
    ours = trained(train, 2, True)
    assert "steps are taken one by one" in caplog.text
    assert_same(ours, trained(train, 2, False))


@pytest.mark.parametrize(("pairs", "holds"), [(0, True), (4096, True), (4097, False)])
def test_a_recording_serves_what_fits_into_it(pairs, holds):
    batch = Batch(torch.zeros(8, dtype=torch.int64), torch.zeros(8, dtype=torch.int64))
    shape = Shape.of(batch, Negatives(None, None, torch.zeros(2, 2000, dtype=torch.int64)))
    assert shape == Shape(8, None, False, False, False, None, 4096)
    other = Shape.of(batch, Negatives(None))
    assert other.room == 0
    assert shape.holds(other, pairs) is holds
    assert not shape.holds(Shape.of(batch, Negatives(torch.arange(5))), 0)
    assert not shape.holds(Shape.of(batch, Negatives(torch.zeros(8, 5).long())), 0)
    assert not shape.holds(Shape.of(batch, Negatives(None), torch.zeros(8, 2)), 0)
    assert not shape.holds(Shape.of(batch, Negatives(None, torch.zeros(8))), 0)
