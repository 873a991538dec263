"""Every setting: a misspelt key names it, a value out of range names the range, nothing is silent."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import yaml
from pydantic import BaseModel

import ssmrec
from ssmrec.config import override
from ssmrec.config.base import _plain_types
from ssmrec.errors import ConfigError, RunError, SsmrecError
from ssmrec.losses import LOSSES
from ssmrec.models import MODELS
from ssmrec.negatives import SAMPLERS
from ssmrec.training import RunConfig, differing, resolve, unused
from ssmrec.training.ahead import refuse_early
from ssmrec.training.protocols import train_run

PARTS: dict[str, dict[str, Any]] = {"model": MODELS, "loss": LOSSES, "negatives": SAMPLERS}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def of_class(schema: type[BaseModel], prefix: str, base: dict) -> Iterator[tuple[dict, str, Any]]:
    """(settings to start from, dotted key, field) of every setting of a class."""
    for name, field in schema.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from of_class(inner, f"{prefix}{name}.", base)
        elif f"{prefix}{name}" not in PARTS:
            yield base, f"{prefix}{name}", field


def every() -> list[tuple[dict, str, Any]]:
    found = list(of_class(RunConfig, "", {}))
    for part, table in PARTS.items():
        for name, cls in table.items():
            found += of_class(cls.Config, f"{part}.", {part: {"name": name}})
    return found


EVERY = every()


def refused(base: dict, key: str, value: Any) -> str:
    """The message that refuses `key: value` on top of `base`."""
    level = values = override(base, [])
    *parents, last = key.split(".")
    for parent in parents:
        level = level.setdefault(parent, {})
    level[last] = value
    with pytest.raises(ConfigError) as caught:
        resolve(values)
    assert "\n" not in str(caught.value) and "Input should" not in str(caught.value)
    return str(caught.value)


def test_a_typo_in_any_key_names_it():
    """A letter doubled in the middle: the nearest key is always the right one."""
    for base, key, _ in EVERY:
        head, _, name = key.rpartition(".")
        middle = len(name) // 2
        wrong = name[:middle] + name[middle] * 2 + name[middle:]
        typo = f"{head}.{wrong}" if head else wrong
        assert refused(base, typo, 1) == f"unknown key {typo}, did you mean {key!r}?"


def test_a_typo_in_any_name_of_a_part_names_it():
    for part, table in PARTS.items():
        for name in table:
            wrong = f"{name}{name[-1]}"
            said = refused({}, f"{part}.name", wrong)
            assert said.startswith(f"unknown {part}.name {wrong!r}, did you mean {name!r}?")


def test_out_of_range_names_the_range():
    tried = 0
    for base, key, field in EVERY:
        for limit in field.metadata:
            for kind in BOUNDS:
                bound = getattr(limit, kind, None)
                if bound is None:
                    continue
                tried += 1
                outside = bound - (kind == "ge") + (kind == "le")
                said = refused(base, key, outside)
                assert said.startswith(f"{key}: must be ") and said.endswith(f"(got {outside!r})")
                told = said.partition(" (got")[0]
                assert f"{BOUNDS[kind]} {bound}" in told or re.search(
                    rf"from .* to {bound}|from {bound} to", told
                )
    assert tried > 40


def test_true_is_no_number():
    """`seed: yes` of YAML would be 1; every setting of numbers refuses it, also within a list."""
    checked = 0
    for base, key, field in EVERY:
        kinds = _plain_types(field.annotation)
        if bool in kinds or not kinds & {int, float}:
            continue
        for value in (
            (True, False) if "tuple" not in str(field.annotation) else ([True], [1, False])
        ):
            assert refused(base, key, value).startswith(f"{key}: must be a"), key
        checked += 1
    assert checked > 100


def test_keys_that_are_no_text_are_named():
    for values, message in (
        ({1: 2}, "unknown key 1; choose from: data, "),
        ({"train": {1: 2}}, "unknown key train.1; choose from: batch_size, "),
        ({"model": {True: 2}}, "model: has a key that is no text: True"),
    ):
        with pytest.raises(ConfigError) as caught:
            resolve(values)
        assert str(caught.value).startswith(message)


def test_a_value_in_the_place_of_a_section_is_told(command, shop):
    for words in (["data", "stats", shop], ["train", shop], ["tune", shop]):
        code, out, err = command(*words, "--set", "data=3")
        message = "error: data: must hold settings as `key: value` (got 3)"
        assert (code, out, err.splitlines()[-1]) == (2, "", message)


def test_wrong_kinds_are_told_in_plain_words():
    """A mapping where one value belongs, and text where a number does."""
    for base, key, field in EVERY:
        assert refused(base, key, {"a": 1}).startswith(f"{key}: ")
        if field.annotation in (int, float):
            assert re.match(
                rf"{key}: must be a (whole |finite )?number.* \(got 'x'\)", refused(base, key, "x")
            )


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("seed=-1", "seed: must be from 0 to 9223372036854775807 (got -1)"),
        ("seed=1.5", "seed: must be a whole number from 0 to 9223372036854775807 (got 1.5)"),
        ("train.epochs=many", "train.epochs: must be a whole number at least 0 (got 'many')"),
        ("train.lr=.nan", "train.lr: must be a finite number above 0 (got nan)"),
        ("data.split.test=2", "data.split.test: must be at least 0 and below 1 (got 2)"),
        ("model.dim=5000", "model.dim: must be from 1 to 4096 (got 5000)"),
        (
            "train.protocol=vaild",
            "train.protocol: must be one of valid, refit, fixed, published "
            "(got 'vaild', did you mean 'valid'?)",
        ),
        ("train.device=gpu1", "train.device: must be one of auto, cpu, cuda (got 'gpu1')"),
        ("data.header=maybe", "data.header: must be true or false (got 'maybe')"),
        ("train=5", "train: must hold settings as `key: value` (got 5)"),
        (
            "model.alpha=[0.5, 0.5, 0.5]",
            "model.alpha: must hold at most 2 values (got [0.5, 0.5, 0.5])",
        ),
        ("model.alpha=[0.5]", "model.alpha: must hold more values"),
        ("evaluation.ks=[5, x]", "evaluation.ks: must be a whole number (got 'x')"),
        ("evaluation.ks=[]", "evaluation.ks: must name at least one (got [])"),
        ("evaluation.metrics=[]", "evaluation.metrics: must name at least one (got [])"),
        (
            "evaluation.metrics=[ndcg@20]",
            "evaluation.metrics: holds names only: write ndcg, and evaluation.ks=[20] (got ['ndcg@20'])",
        ),
        ("model.name=7", "model.name: must be a word (got 7)"),
        ("evaluation.ks=[5, 0]", "evaluation.ks: must be at least 1 (got [5, 0])"),
        ("evaluation.ks=-1", "evaluation.ks: must be at least 1 (got [-1])"),
        (
            "train.metric=ndgc@20",
            "train.metric: unknown metric 'ndgc@20', did you mean 'ndcg@20'?",
        ),
        (
            "train.metric=ndcg",
            "train.metric: metric 'ndcg' needs a cut-off from 1 to 999999999, such as 'ndcg@20'",
        ),
        (
            "evaluation.metrics=[auc]",
            "evaluation.metrics: unknown metric 'auc@5'; choose from: hit, map, mrr, ndcg, precision, "
            "recall",
        ),
    ],
)
def test_messages_word_by_word(pair, message):
    with pytest.raises(ConfigError) as caught:
        resolve(override({}, [pair]))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cut": "2011-10-01"}, "data.split.cut: is used by data.split.strategy=time only"),
        (
            {"strategy": "random", "cut": 0.8},
            "data.split.cut: is used by data.split.strategy=time only",
        ),
        ({"last_k": 3}, "data.split.last_k: is used by data.split.strategy=last only"),
    ],
)
def test_settings_without_effect_are_refused(values, message):
    assert message in refused({}, "data.split", values)
    assert resolve({"data": {"split": {"strategy": "time", "cut": 0.8}}}).data.split.cut == 0.8
    assert resolve({"data": {"split": {"strategy": "last", "last_k": 3}}}).data.split.last_k == 3


@pytest.mark.parametrize(
    "file", [b"train: {lr: 2020-13-45}", b"a: [", b"\xff\xfe", b"- 1", b"a: &a [*a]"]
)
def test_a_yaml_file_of_any_kind_is_one_line(command, tmp_path, shop, file):
    (tmp_path / "r.yaml").write_bytes(file)
    code, out, err = command("train", shop, "--recipe", "r.yaml")
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and "error: " in err
    code, _, err = command("train", shop, "--set", "train.lr=2020-13-45")
    assert code == 2 and "train.lr: must be a number above 0" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "train.metric=ndgc@20"], "did you mean 'ndcg@20'"),
        (["--set", "evaluation.ks=[]"], "evaluation.ks"),
        (["--resume", "--overwrite"], "--resume goes on, --overwrite begins anew: choose one"),
        (["--protocol", "valid", "--set", "data.split.valid=0"], "data.split.valid=0.1"),
        (["--set", "data.split.strategy=given"], "given needs a test file"),
        (["--set", "train.device=cuda"], "train.device=cuda"),
    ],
)
def test_incompatible_settings_stop_before_training(command, tmp_path, shop, words, message):
    import torch

    if "train.device=cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    code, _, err = command("train", shop, "--out", "run", *words)
    assert code == 2 and message in err.splitlines()[-1] and "epoch   1" not in err
    assert not (tmp_path / "run" / "metrics.json").exists()


EARLY = {
    "no validation": (["--set", "data.split.valid=0"], "there are none: set data.split.valid=0.1"),
    "refit without": (["--protocol", "refit", "--set", "data.split.valid=0"], "train.protocol=refit"),
    "no pairs": (["--negatives", "given"], "negatives=given needs negatives.path"),
    "lost pairs": (
        ["--negatives", "given", "--set", "negatives.path=no.csv"], "no.csv: no such file"
    ),
    "lazy": (["--set", "train.optimizer=lazy_adam"], "train.optimizer=lazy_adam: the gradients of"),
    "bf16": (["--set", "train.device=cpu", "--set", "train.precision=bf16"], "train.precision=bf16"),
    "cut": (
        ["--set", "data.split.strategy=time", "--set", "data.split.cut=2020-13-45"],
        "data.split.cut: must be an ISO date, seconds, or a quantile between 0 and 1",
    ),
    "prefixes": (
        ["--set", "loss.prefixes=[8, 128]"], "loss.prefixes: 128 is more than the 64 numbers"
    ),
    "wide prefixes": (
        ["--model", "ngcf", "--set", "model.layers=1", "--set", "loss.prefixes=[129]"],
        "loss.prefixes: 129 is more than the 128 numbers",
    ),
    "layer": (
        ["--model", "xsimgcl", "--set", "model.ssl_layer=4"],
        "model.ssl_layer=4 lies above model.layers=2",
    ),
    "test file": (["--test", "no.csv"], "no.csv: no such file"),
    "valid file": (["--valid", "no.csv", "--test", "no.csv"], "no.csv: no such file"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "message"), EARLY.values(), ids=EARLY.keys())
def test_settings_that_cannot_work_are_refused_before_reading(command, tmp_path, words, message):
    """Reading the file, which is empty, would give another error."""
    (tmp_path / "empty.csv").touch()
    code, _, err = command("--quiet", "train", "empty.csv", "--out", "run", *words)
    assert code == 2 and message in err and len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": {"optimizer": "lazy_adam"}}, "train.optimizer=lazy_adam"),
        ({"train": {"device": "cpu", "precision": "tf32"}}, "train.precision=tf32"),
        ({"loss": {"name": "ssm", "prefixes": [65]}}, "65 is more than the 64 numbers"),
        ({"negatives": {"name": "given", "path": "no.csv"}}, r"no\.csv: no such file"),
    ],
)
def test_python_refuses_the_same(shop, settings, message):
    with pytest.raises(SsmrecError, match=message):
        ssmrec.Recommender("lightgcn", **settings).fit(ssmrec.load(shop), progress=False)


def test_what_fits_is_not_refused_early(tmp_path):
    (tmp_path / "a.csv").write_text("user,item\n1,2\n")
    for values in (
        {"model": {"name": "ngcf", "layers": 1}, "loss": {"name": "ssm", "prefixes": [128]}},
        {"model": {"name": "mf"}, "train": {"optimizer": "lazy_adam"}},
        {"model": {"name": "ease"}, "train": {"precision": "bf16"}},
        {"negatives": {"name": "given", "path": str(tmp_path / "a.csv")}},
        {"train": {"protocol": "fixed"}, "data": {"split": {"valid": 0}}},
    ):
        refuse_early(resolve(values))


def test_the_run_says_what_was_not_a_default(command, tmp_path, shop):
    words = [
        "--model",
        "mf",
        "--epochs",
        1,
        "--seed",
        3,
        "--set",
        "loss.temperature=0.3",
        "--out",
        "run",
    ]
    code, _, err = command("train", shop, *words)
    assert code == 0
    told = {
        "data.source": str(shop), "model.name": "mf", "loss.name": "ssm", "loss.temperature": 0.3,
        "train.epochs": 1, "seed": 3,
    }  # fmt: skip
    line = next(line for line in err.splitlines() if line.startswith("settings: "))
    words = line.removeprefix("settings: ").partition(";")[0].split()
    assert dict(word.split("=", 1) for word in words) == {k: str(v) for k, v in told.items()}
    record = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert record["not_default"] == told


def test_what_auto_chose_counts_as_default():
    assert differing(resolve({})).keys() == {"data.source", "model.name", "loss.name"}
    chosen = differing(
        resolve({"negatives": {"name": "popularity", "n": 7}, "loss": {"name": "bpr"}})
    )
    assert chosen["negatives.name"] == "popularity" and chosen["negatives.n"] == 7
    assert "negatives.shared" not in chosen and "train.lr" not in chosen


def test_a_closed_form_says_what_it_does_not_use(command, shop):
    code, _, err = command(
        "train", shop, "--model", "ease", "--set", "loss.temperature=0.3", "--epochs", 2
    )
    assert code == 0
    assert "ease: solved in closed form, so without effect: loss.temperature, train.epochs" in err


@pytest.mark.parametrize(
    ("values", "idle"),
    [
        (
            {"model": {"name": "ease"}, "loss": {"name": "bpr"}, "train": {"epochs": 1, "patience": 3}},
            {"ease: solved in closed form": ["loss.name", "train.epochs", "train.patience"]},
        ),
        ({"model": {"name": "svd"}, "negatives": {"name": "uniform"}},
         {"svd: solved in closed form": ["negatives.name"]}),
        ({"model": {"name": "ease"}, "train": {"threads": 1, "protocol": "refit"}}, {}),
        ({"model": {"name": "ease"}, "train": {"budget": 60}},
         {"ease: solved in closed form": ["train.budget"]}),
        (
            {"train": {"protocol": "fixed", "patience": 3, "metric": "recall@5", "eval_every": 2}},
            {"train.protocol=fixed chooses no epoch":
                ["train.patience", "train.eval_every", "train.metric"]},
        ),
        ({"train": {"protocol": "published", "patience": 3}, "data": {"split": {"valid": 0.3}}},
         {"train.protocol=published carves no validation pairs": ["data.split.valid"]}),
        ({"train": {"protocol": "fixed"}, "data": {"split": {"valid": 0}}}, {}),
        ({"train": {"stable_rank_epochs": 9}}, {"train.stable_rank=0": ["train.stable_rank_epochs"]}),
        ({"train": {"stable_rank_epochs": 9, "stable_rank": 0.1}, "loss": {"name": "bpr"}}, {}),
        ({"loss": {"name": "directau"}, "negatives": {"name": "uniform", "n": 9}},
         {"loss=directau has no use for negatives": ["negatives.name", "negatives.n"]}),
        ({"negatives": {"name": "uniform", "exclude_known": False, "full_users": "skip"}},
         {"negatives.exclude_known=false": ["negatives.full_users"]}),
        ({"model": {"name": "sgl", "ssl_weight": 0, "ssl_temperature": 0.5}},
         {"model.ssl_weight=0": ["model.ssl_temperature"]}),
        ({"distributed": {"tables": "sharded"}}, {"one process alone": ["distributed.tables"]}),
        ({"model": {"name": "ease"}, "train": {"stable_rank_epochs": 9}},
         {"ease: solved in closed form": ["train.stable_rank_epochs"]}),
    ],
)  # fmt: skip
def test_settings_without_effect_are_told_with_the_reason(values, idle):
    found = unused(resolve(values))
    assert {reason: sorted(keys) for reason, keys in found.items()} == {
        reason: sorted(keys) for reason, keys in idle.items()
    }


def test_models_are_tried_within_a_budget_and_by_validation_only():
    said = "train.choose_model=true tries models for train.budget seconds"
    for train in (
        {"choose_model": True},
        {"choose_model": True, "budget": 5, "protocol": "fixed"},
        {"choose_model": True, "budget": 5, "metric": "ndcg@7"},
    ):
        with pytest.raises(ConfigError, match=said):
            resolve({"train": train})
    assert resolve({"train": {"choose_model": True, "budget": 5}}).train.choose_model


def test_no_effect_is_told_by_the_command(command, shop):
    words = ["--protocol", "fixed", "--epochs", 1, "--model", "mf", "--set", "train.patience=3"]
    code, _, err = command("train", shop, *words)
    assert code == 0
    assert "train.protocol=fixed chooses no epoch, so without effect: train.patience" in err


def numbers(kind: type) -> list[tuple[dict, str, Any]]:
    """The settings of model, loss, sampler and training that are numbers of a kind, lists of them too."""
    return [
        (base, key, field)
        for base, key, field in EVERY
        if kind in _plain_types(field.annotation)
        and not _plain_types(field.annotation) & {str, dict}
        and key.partition(".")[0] in (*PARTS, "train")
    ]


def alike(field: Any, number: float) -> Any:
    """`number`, as often as the default has numbers."""
    return [number] * max(1, len(field.default)) if isinstance(field.default, tuple) else number


def test_numbers_that_float32_cannot_compute_with_are_refused():
    floats = numbers(float)
    assert {"train.l2", "train.lr", "model.alpha", "loss.temperature"} <= {
        key for _, key, _ in floats
    }
    for base, key, field in floats:
        for number in (1e300, 1e31, 1e-31, -1e300):
            assert refused(base, key, alike(field, number)).startswith(f"{key}: must be "), number
    for base, key, field in numbers(int):
        if float not in _plain_types(field.annotation):
            said = refused(base, key, alike(field, 10**12))
            assert said.startswith(f"{key}: must be "), said


@pytest.mark.parametrize("number", [1e30, 1e10, 1e-30, -1e30])
def test_numbers_at_the_edge_of_float32_train_or_are_named(number, tastes):
    """Every setting alone at its largest and its least: a finite model, or one line that names it."""
    for base, key, field in numbers(float):
        level = values = override({"train": {"epochs": 2, "threads": 1}, **base}, [])
        *parents, last = key.split(".")
        for parent in parents:
            level = level.setdefault(parent, {})
        level[last] = alike(field, number)
        try:
            config = resolve(values)
        except ConfigError as error:  # a narrower range of its own
            assert str(error).startswith(f"{key}: must be "), key
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                model = train_run(config, tastes).model
            except (ConfigError, RunError) as error:
                assert f"{key}=" in str(error) and "\n" not in str(error)
            else:
                vectors = model.vectors()
                sides = [vectors.items, *([] if model.own_scores else [vectors.users])]
                assert all(bool(torch.isfinite(side).all()) for side in sides), key
