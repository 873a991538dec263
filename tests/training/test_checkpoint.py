"""A killed training goes on exactly as if it had never been killed."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ssmrec.errors import RunError
from ssmrec.training import Checkpoint, DivergedError, Listener, checkpoint, train_run


class Killed(BaseException):
    """Ends the process as far as training is concerned."""


class Kill(Listener):
    """Dies after `epochs` epochs, counted over all phases."""

    def __init__(self, epochs: int):
        self.left, self.seen = epochs, []

    def epoch(self, record, best):
        self.seen.append(record["epoch"])
        self.left -= 1
        if self.left == 0:
            raise Killed


@pytest.fixture(autouse=True)
def save_every_epoch(monkeypatch):
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)


def comparable(trained):
    timed = {"train_seconds", "eval_seconds", "examples_per_second"}
    history = [{key: row[key] for key in row.keys() - timed} for row in trained.history]
    machine = ("seconds", "peak_memory_bytes")
    return history, {key: trained.metrics[key] for key in trained.metrics if key not in machine}


@pytest.mark.parametrize(
    ("protocol", "kill_after", "lr_decay"),
    [
        ("valid", 1, "none"), ("valid", 3, "none"), ("valid", 6, "linear"),
        ("refit", 3, "linear"), ("refit", 6, "none"), ("refit", 8, "none"), ("refit", 8, "linear"),
        ("fixed", 3, "linear"), ("published", 3, "none"),
    ],
)  # fmt: skip
def test_resumed_equals_unbroken(small, tastes, tmp_path, protocol, kill_after, lr_decay):
    """Killed in the first epoch, in the middle, in the last, and (refit) in the second phase."""
    train = {"protocol": protocol, "epochs": 6, "lr": 0.1, "patience": 4, "lr_decay": lr_decay}
    config = small(train=train)
    unbroken = train_run(config, tastes)
    try:
        train_run(config, tastes, Kill(kill_after), Checkpoint(tmp_path, "key", {}, False))
    except Killed:
        pass
    else:
        assert kill_after > len(unbroken.history)
    ear = Kill(-1)
    resumed = train_run(config, tastes, ear, Checkpoint(tmp_path, "key", {}, True))
    assert torch.equal(resumed.model.table, unbroken.model.table)
    assert comparable(resumed) == comparable(unbroken)
    # the killed epoch itself is lost, those before it are not done again
    assert len(ear.seen) <= max(len(unbroken.history) - kill_after + 1, 1)


def test_draws_of_negatives_go_on_too(small, tastes, tmp_path):
    config = small(
        model={"name": "mf"},
        loss={"name": "bpr"},
        negatives={"name": "popularity", "n": 3, "shared": False},
        train={"protocol": "fixed"},
    )
    unbroken = train_run(config, tastes)
    with pytest.raises(Killed):
        train_run(config, tastes, Kill(3), Checkpoint(tmp_path, "key", {}, False))
    resumed = train_run(config, tastes, None, Checkpoint(tmp_path, "key", {}, True))
    assert torch.equal(resumed.model.table, unbroken.model.table)


def test_without_resume_an_old_checkpoint_is_ignored(small, tastes, tmp_path):
    config = small()
    with pytest.raises(Killed):
        train_run(config, tastes, Kill(3), Checkpoint(tmp_path, "key", {}, False))
    ear = Kill(-1)
    train_run(config, tastes, ear, Checkpoint(tmp_path, "key", {}, False))
    assert ear.seen == [1, 2, 3, 4]


def test_other_settings_or_data_are_refused(small, tastes, tmp_path):
    with pytest.raises(Killed):
        train_run(small(), tastes, Kill(3), Checkpoint(tmp_path, "key", {}, False))
    with pytest.raises(RunError, match="the data differ"):
        Checkpoint(tmp_path, "other key", {}, True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": {"dim": 16}}, "model.dim: 8 then, 16 now"),
        ({"train": {"lr": 0.5}}, "train.lr: 0.02 then, 0.5 now"),
        ({"train": {"epochs": 9}}, ""),
        ({"train": {"patience": 9, "threads": 2}}, ""),
        ({"train": {"epochs": 9, "lr_decay": "linear"}}, "train.epochs: 4 then, 9 now"),
    ],
)
def test_only_settings_that_matter_stand_in_the_way(small, tastes, tmp_path, changed, message):
    before = small().model_dump(mode="json")
    with pytest.raises(Killed):
        train_run(small(), tastes, Kill(3), Checkpoint(tmp_path, "key", before, False))
    after = small(**changed).model_dump(mode="json")
    if not message:
        assert Checkpoint(tmp_path, "key", after, True).phases["select"]["epoch"] == 2
        return
    with pytest.raises(RunError, match=message):
        Checkpoint(tmp_path, "key", after, True)


@pytest.mark.parametrize("protocol", ["valid", "fixed"])
@pytest.mark.parametrize("epochs", [0, 1])
def test_epochs_that_were_done_are_not_undone(small, tastes, tmp_path, protocol, epochs):
    """The settings of the run would be those of another model."""
    config = small(train={"protocol": protocol})
    with pytest.raises(Killed):
        settings = config.model_dump(mode="json")
        train_run(config, tastes, Kill(3), Checkpoint(tmp_path, "key", settings, False))
    fewer = small(train={"protocol": protocol, "epochs": epochs}).model_dump(mode="json")
    message = f"holds 2 epochs, more than train.epochs={epochs}.*--resume with train.epochs=2"
    with pytest.raises(RunError, match=message):
        Checkpoint(tmp_path, "key", fewer, True)
    ends = small(train={"protocol": protocol, "epochs": 2})
    there = Checkpoint(tmp_path, "key", ends.model_dump(mode="json"), True)
    trained = train_run(ends, tastes, None, there)
    assert trained.metrics["epochs"] == 2 and torch.equal(
        trained.model.table, train_run(ends, tastes).model.table
    )


@pytest.mark.parametrize(("value", "fits"), [("float32", True), ("bf16", False)])
def test_a_setting_younger_than_the_checkpoint_was_at_its_default(
    small, tastes, tmp_path, value, fits
):
    before = small().model_dump(mode="json")
    del before["train"]["precision"]
    with pytest.raises(Killed):
        train_run(small(), tastes, Kill(3), Checkpoint(tmp_path, "key", before, False))
    after = small(train={"precision": value}).model_dump(mode="json")
    if fits:
        assert Checkpoint(tmp_path, "key", after, True).phases["select"]["epoch"] == 2
        return
    with pytest.raises(RunError, match="train.precision: float32 then, bf16 now"):
        Checkpoint(tmp_path, "key", after, True)


def test_of_a_checkpoint_older_than_ties_the_data_tell_what_they_were(small, tastes, tmp_path):
    before = small().model_dump(mode="json")
    del before["data"]["split"]["ties"]
    with pytest.raises(Killed):
        train_run(small(), tastes, Kill(3), Checkpoint(tmp_path, "by item", before, False))
    now = {ties: small(data={"split": {"ties": ties}}).model_dump(mode="json")
           for ties in ("auto", "item")}  # fmt: skip
    with pytest.raises(RunError, match=r"the data differ, or their split: data\.split\.ties=item"):
        Checkpoint(tmp_path, "drawn", now["auto"], True)
    with pytest.raises(RunError, match=r"\(the data differ\)"):
        Checkpoint(tmp_path, "other rows", now["item"], True)
    for settings in now.values():
        assert Checkpoint(tmp_path, "by item", settings, True).phases["select"]["epoch"] == 2


@pytest.mark.parametrize(("decay", "told"), [("none", True), ("linear", False)])
def test_a_diverged_training_names_its_checkpoint_where_it_can_end_there(
    small, tastes, tmp_path, decay, told
):
    """With another number of epochs the rate would have fallen otherwise, and it would be refused."""
    values = {"protocol": "fixed", "epochs": 9, "lr": 1e25, "lr_decay": decay}
    values["batch_size"] = 10**6  # a step an epoch, of which the first one is finite
    config = small(model={"name": "mf"}, loss={"name": "bpr"}, train=values)
    with pytest.raises(DivergedError) as caught:
        train_run(config, tastes, None, Checkpoint(tmp_path, "key", {}, False))
    assert (tmp_path / "checkpoint.safetensors").exists()
    assert ("with train.epochs=" in str(caught.value)) is told


class Diverge(Listener):
    """Raises what a training that diverges in the second epoch of its refit does."""

    def phase(self, name, epochs, device):
        self.name = name

    def epoch(self, record, best):
        if self.name == "refit" and record["epoch"] == 2:
            raise DivergedError("diverged")


def test_a_refit_that_diverges_names_no_number_of_epochs(small, tastes, tmp_path):
    """It has those of the choice, whatever train.epochs says."""
    config = small(train={"protocol": "refit", "lr": 1e-4})
    with pytest.raises(DivergedError, match="^diverged$"):
        train_run(config, tastes, Diverge(), Checkpoint(tmp_path, "key", {}, False))
    assert Checkpoint(tmp_path, "key", {}, True).phases["refit"]["epoch"] == 1


def test_a_damaged_checkpoint_is_one_clear_error(small, tastes, tmp_path):
    with pytest.raises(Killed):
        train_run(small(), tastes, Kill(3), Checkpoint(tmp_path, "key", {}, False))
    path = tmp_path / "checkpoint.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:200], b"", b"no tensors at all"):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"checkpoint.safetensors: .*damaged"):
            Checkpoint(tmp_path, "key", {}, True)


@pytest.mark.parametrize("place", [0.02, 0.5, 0.999])
def test_a_flipped_bit_in_a_checkpoint_is_told_and_nothing_is_overwritten(
    small, tastes, tmp_path, place
):
    """In the header, in the middle, in the last numbers: not one of them would end as NaN."""
    with pytest.raises(Killed):
        train_run(small(), tastes, Kill(3), Checkpoint(tmp_path, "key", {}, False))
    path = tmp_path / "checkpoint.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[int(place * len(damaged))] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(RunError, match=r"checkpoint is damaged .*train with --overwrite") as caught:
        Checkpoint(tmp_path, "key", {}, True)
    assert "\n" not in str(caught.value) and path.read_bytes() == damaged


def test_a_checkpoint_of_before_there_were_checksums_goes_on(small, tastes, tmp_path):
    with pytest.raises(Killed):
        train_run(small(), tastes, Kill(3), Checkpoint(tmp_path, "key", {}, False))
    path = tmp_path / "checkpoint.safetensors"
    with safe_open(path, framework="pt") as file:
        told = {key: text for key, text in file.metadata().items() if key != "crc32"}
    save_file(load_file(path), path, told)
    assert Checkpoint(tmp_path, "key", {}, True).phases["select"]["epoch"] == 2


def test_remove_and_no_leftovers(small, tastes, tmp_path):
    made = Checkpoint(tmp_path, "key", {}, False)
    train_run(small(), tastes, None, made)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    made.remove()
    assert list(tmp_path.iterdir()) == []
    made.remove()


def test_no_checkpoint_file_means_from_the_beginning(tmp_path):
    assert Checkpoint(tmp_path, "key", {}, True).phases == {}
