"""Spaces: every shipped one is valid, and what a user types is read or refused."""

from __future__ import annotations

import contextlib

import pytest

from ssmrec.config import merged
from ssmrec.errors import ConfigError
from ssmrec.losses import LOSSES
from ssmrec.models import MODELS
from ssmrec.negatives import SAMPLERS
from ssmrec.training import DivergedError, TrainConfig, train_run
from ssmrec.training.config import completed
from ssmrec.tuning import Choice, Range, labels, make_task, parse, space_of, spaces
from ssmrec.tuning.spaces import nested

TUNED = {name: cls for name, cls in MODELS.items() if name != "blend"}  # that one is made of runs
PARTS = {"loss": LOSSES, "model": TUNED, "negatives": SAMPLERS}


@pytest.mark.parametrize("section", ["loss", "model"])
def test_every_part_has_a_space(section):
    assert set(spaces()[section]) == {*PARTS[section], "other"}


def test_what_has_nothing_to_search_says_so():
    """A half-life needs timestamps, which not all data have."""
    with pytest.raises(ConfigError, match="nothing to search for popular with ssm: .* --space"):
        make_task({"model": {"name": "popular"}})


def test_every_key_is_a_setting_of_its_part():
    for section, table in PARTS.items():
        for name, space in spaces()[section].items():
            cls = table.get(name.removesuffix(" a row"), LOSSES["ssm"])
            assert {key.partition(".")[0] for key in space} <= {section}
            assert {key.partition(".")[2] for key in space} <= set(cls.Config.model_fields), name
    assert {key.partition(".")[2] for key in spaces()["every"]} <= set(TrainConfig.model_fields)


def every_combination():
    yield from (({"model": {"name": "mf"}, "loss": {"name": name}}) for name in LOSSES)
    yield from (
        ({"model": {"name": name}, "loss": {"name": "ssm"}})
        for name in TUNED
        if spaces()["model"][name] or not TUNED[name].closed_form
    )
    for name in SAMPLERS:
        for shared in (True, False) if name in ("uniform", "popularity") else (None,):
            own = {"name": name} if shared is None else {"name": name, "shared": shared}
            if shared is False:
                own["n"] = 4
            yield {"negatives": own}


@pytest.mark.parametrize("values", list(every_combination()), ids=str)
def test_shipped_spaces_are_valid_and_hold_the_defaults(values):
    space = space_of(values)
    run = completed(values)
    for key, part in space.items():
        for value in part.ends:
            section, _, name = key.partition(".")
            changed = getattr(
                completed({**values, section: {**values.get(section, {}), name: value}}), section
            )
            found = changed[name] if isinstance(changed, dict) else getattr(changed, name)
            assert found == value
    assert set(make_task(values).start) == set(space)  # the first trial is the one without tuning
    if not MODELS[run.model["name"]].closed_form:
        assert {"train.lr", "train.l2"} <= set(space)


@pytest.mark.parametrize("end", [0, -1], ids=["low", "high"])
@pytest.mark.parametrize("values", list(every_combination()), ids=str)
def test_both_ends_of_a_shipped_space_train(values, end, tastes):
    """Diverging is allowed; settings that the data or the other parts refuse are not."""
    if values.get("model") == {"name": "ials"}:
        pytest.importorskip("implicit", reason="extra `als` is not installed")
    if values.get("negatives") == {"name": "given"}:
        pytest.skip("needs a file of negatives")
    task = make_task(merged(values, {"train": {"epochs": 1, "threads": 1}}))
    params = {key: part.ends[end] for key, part in task.space.items()}
    with contextlib.suppress(DivergedError):
        train_run(task.trial(params), tastes)


def test_a_space_follows_model_loss_and_sampler():
    ssm = space_of({"model": {"name": "lightgcn"}, "loss": {"name": "ssm"}})
    assert list(ssm) == ["train.lr", "train.l2", "model.layers", "loss.temperature"]
    assert ssm["model.layers"] == Range(1, 4, whole=True)
    assert ssm["loss.temperature"] == Range(0.03, 0.5, log=True)
    bpr = space_of({"model": {"name": "mf"}, "loss": {"name": "bpr"}})
    assert bpr["negatives.n"] == Range(1, 64, log=True, whole=True)
    sl = space_of({"model": {"name": "mf"}, "loss": {"name": "sl"}})
    assert sl["negatives.n"] == Range(64, 2048, log=True, whole=True)
    assert "negatives.n" not in space_of(
        {"loss": {"name": "directau"}, "negatives": {"name": "uniform"}}
    )
    assert list(space_of({"model": {"name": "ease"}})) == ["model.l2"]


def test_own_parts_share_the_general_space(monkeypatch):
    monkeypatch.setitem(LOSSES, "mine", LOSSES["ssm"])
    monkeypatch.setitem(LOSSES, "plain", LOSSES["directau"])
    monkeypatch.setitem(MODELS, "own", MODELS["mf"])
    general = ["train.lr", "train.l2", "loss.temperature"]
    assert list(space_of({"model": {"name": "own"}, "loss": {"name": "mine"}})) == general
    assert list(space_of({"model": {"name": "own"}, "loss": {"name": "plain"}})) == general[:2]


def test_own_ranges_replace_add_and_fixed_keys_leave():
    values = {"model": {"name": "mf"}, "loss": {"name": "ssm"}}
    own = {"loss.temperature": "0.1..0.2", "model.dim": "32,64"}
    space = space_of(values, own, ["train.lr"])
    assert list(space) == ["train.l2", "loss.temperature", "model.dim"]
    assert space["loss.temperature"] == Range(0.1, 0.2)
    assert space["model.dim"] == Choice((32, 64))
    assert list(space_of(values, own, ["train"])) == ["loss.temperature", "model.dim"]


@pytest.mark.parametrize(
    ("text", "whole", "part"),
    [
        ("0.05..0.5:log", False, Range(0.05, 0.5, log=True)),
        (" 1e-6 .. 1e-2 : log ", False, Range(1e-6, 1e-2, log=True)),
        ("-1..1", False, Range(-1, 1)),
        ("1..4", True, Range(1, 4, whole=True)),
        ("1..64:log", True, Range(1, 64, log=True, whole=True)),
        ("1e-6,1e-5, 1e-4", False, Choice((1e-6, 1e-5, 1e-4))),
        ("tanh, relu", False, Choice(("tanh", "relu"))),
        ("true,false", False, Choice((True, False))),
        ("[1, 0], [0.5, 0.5]", False, Choice(([1, 0], [0.5, 0.5]))),
        ([(1, 0), (0, 1)], False, Choice(([1, 0], [0, 1]))),
        (Range(0, 1), False, Range(0, 1)),
    ],
)
def test_ranges_and_choices_are_read(text, whole, part):
    found = parse("k", text, whole)
    assert found == part
    assert parse("k", str(found), whole) == found  # as --dry-run prints it


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("loss.temprature", "0.1..0.2", "did you mean 'loss.temperature'"),
        (
            "loss.temperature",
            "0..0.5",
            "loss.temperature: must be a number above 0|must be above 0",
        ),
        ("loss.temperature", "0..0.5:log", "a logarithm needs a range above 0"),
        ("loss.temperature", "0.5..0.1", "must go from a lower to a higher number"),
        ("loss.temperature", "a..b", "the ends must be numbers"),
        ("loss.temperature", "0.1..0.5:lin", "after the range comes :log or nothing"),
        ("loss.temperature", "0.1", "must be a range such as 0.05..0.5"),
        ("loss.temperature", "0.1,0.1", "names a value twice"),
        ("loss.similarity", "cosine,dto", "loss.similarity: must be one of"),
        ("model.layers", "1.5..3", "the ends must be whole numbers"),
        ("model.layers", "1..17", "from 1 to 16"),
        ("model.name", "mf,lightgcn", "ssmrec compare"),
        ("train.protocol", "valid,fixed", "cannot be searched"),
        ("data.min_user", "1..3", "cannot be searched"),
        ("seed", "1,2", "cannot be searched"),
        ("train.l2", "1e-6..1e-5", "train.l2 is fixed as well as searched"),
    ],
)
def test_what_cannot_be_searched_is_told(key, text, message):
    with pytest.raises(ConfigError, match=message):
        space_of({"model": {"name": "lightgcn"}}, {key: text}, ["train.l2"])


def test_a_closed_form_has_no_use_for_a_learning_rate():
    with pytest.raises(ConfigError, match=r"train\.lr has no effect: ease is solved"):
        space_of({"model": {"name": "ease"}}, {"train.lr": "1e-3..1e-2"})


def test_nothing_left_to_search():
    with pytest.raises(ConfigError, match="nothing to search for mf with bpr"):
        space_of({"model": {"name": "mf"}, "loss": {"name": "bpr"}}, {}, ["train", "negatives"])


def test_values_of_a_range_are_short_and_inside():
    part = Range(0.03, 0.12345678)
    assert part.value(0.0712345) == 0.07123
    assert part.value(0.12345678) == 0.1235 or part.value(0.12345678) == part.high
    assert part.value(0.0300000001) == 0.03
    assert Range(1, 9, whole=True).value(3) == 3
    assert (
        part.holds(0.1) and not part.holds(0.2) and not part.holds("0.1") and not part.holds(True)
    )


def test_lists_have_names_for_the_sampler():
    part = Choice(([1, 0], [0.5, 0.5]))
    assert part.names == ["[1, 0]", "[0.5, 0.5]"]
    assert part.named([1.0, 0.0]) == "[1, 0]" and part.value("[0.5, 0.5]") == [0.5, 0.5]
    assert Choice((0, 1e-4)).named(0.0) == 0


def test_labels_are_short_where_they_can_be():
    assert labels(["loss.alpha", "model.alpha", "train.lr"]) == {
        "loss.alpha": "loss.alpha", "model.alpha": "model.alpha", "train.lr": "lr",
    }  # fmt: skip


def test_nested():
    assert nested({"a.b": 1, "a.c": 2, "d": 3}) == {"a": {"b": 1, "c": 2}, "d": 3}
