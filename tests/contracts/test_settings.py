"""Every setting: a misspelt key names it, a value out of range names the range, nothing is silent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from ssmrec.config import override
from ssmrec.errors import ConfigError
from ssmrec.losses import LOSSES
from ssmrec.models import MODELS
from ssmrec.negatives import SAMPLERS
from ssmrec.training import RunConfig, differing, resolve

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
            assert said == f"unknown {part}.name {wrong!r}, did you mean {name!r}?"


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
        ("seed=-1", "seed: must be at least 0 (got -1)"),
        ("seed=1.5", "seed: must be a whole number at least 0 (got 1.5)"),
        ("train.epochs=many", "train.epochs: must be a whole number at least 0 (got 'many')"),
        ("train.lr=.nan", "train.lr: must be a finite number above 0 (got nan)"),
        ("data.split.test=2", "data.split.test: must be above 0 and below 1 (got 2)"),
        ("model.dim=5000", "model.dim: must be from 1 to 4096 (got 5000)"),
        (
            "train.protocol=vaild",
            "train.protocol: must be one of valid, refit, fixed, published "
            "(got 'vaild', did you mean 'valid'?)",
        ),
        ("train.device=gpu1", "train.device: must be one of auto, cpu, cuda (got 'gpu1')"),
        ("data.header=maybe", "data.header: must be true or false (got 'maybe')"),
        ("train=5", "train: must hold settings as `key: value` (got 5)"),
        ("evaluation.ks=[5, x]", "evaluation.ks: must be a whole number (got 'x')"),
        ("evaluation.ks=[]", "evaluation.ks: must name at least one (got [])"),
        ("evaluation.metrics=[]", "evaluation.metrics: must name at least one (got [])"),
        (
            "evaluation.metrics=[ndcg@20]",
            "evaluation.metrics: holds names only: write ndcg, and evaluation.ks=[20] (got ['ndcg@20'])",
        ),
        ("model.name=7", "model.name: must be a word (got 7)"),
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
        (["--set", "train.metric=ndgc@20"], "did you mean 'ndcg'"),
        (["--set", "evaluation.ks=[]"], "evaluation.ks"),
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
    assert (
        "ease: solved in closed form, so without effect are loss.temperature, train.epochs" in err
    )
