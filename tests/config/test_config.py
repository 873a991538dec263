"""Settings: overrides, layers, recipes, and errors that name the remedy."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from ssmrec.config import Config, build, choose, merged, nearest, override, read_recipe, read_yaml
from ssmrec.config import recipes as list_recipes
from ssmrec.errors import ConfigError, shown
from ssmrec.losses import LOSSES
from ssmrec.training import resolve


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1e-3", 0.001),
        ("5", 5),
        ("0.14", 0.14),
        ("true", True),
        ("null", None),
        ("[5, 20]", [5, 20]),
        ("[recall, ndcg]", ["recall", "ndcg"]),
        ("{a: 1}", {"a": 1}),
        ("bpr", "bpr"),
        ("a=b", "a=b"),
        ("", None),
        ("[1, 2", "[1, 2"),
    ],
)
def test_override_reads_values_as_yaml(text, want):
    value = override({}, [f"train.key={text}"])["train"]["key"]
    assert value == want and type(value) is type(want)


def test_override_sets_one_key_and_leaves_the_input_alone():
    before = {"loss": {"name": "ssm", "temperature": 0.2}, "seed": 0}
    after = override(before, ["loss.temperature=0.1", "train.lr=1e-2", "loss.temperature=0.3"])
    assert after == {
        "loss": {"name": "ssm", "temperature": 0.3}, "seed": 0, "train": {"lr": 0.01},
    }  # fmt: skip
    assert before == {"loss": {"name": "ssm", "temperature": 0.2}, "seed": 0}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("train.lr", "must look like key=value"),
        ("=3", "must look like key=value"),
        ("seed.x=3", "seed is a value and has no keys below it"),
    ],
)
def test_override_errors(pair, message):
    with pytest.raises(ConfigError, match=message):
        override({"seed": 0}, [pair])


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_override_keeps_every_float(value):
    assert override({}, [f"x={value!r}"])["x"] == value


def test_merged_goes_key_by_key_and_a_renamed_part_starts_afresh():
    low = {"loss": {"name": "ssm", "temperature": 0.1}, "train": {"lr": 1, "l2": 2}, "seed": 1}
    high = {"loss": {"name": "bpr"}, "train": {"lr": 3}}
    assert merged(low, high) == {
        "loss": {"name": "bpr"}, "train": {"lr": 3, "l2": 2}, "seed": 1,
    }  # fmt: skip
    assert merged(low, {"loss": {"name": "ssm"}})["loss"]["temperature"] == 0.1
    assert merged(low, {"loss": {"temperature": 0.5}})["loss"] == {
        "name": "ssm",
        "temperature": 0.5,
    }
    assert low["train"] == {"lr": 1, "l2": 2}


def test_a_value_where_settings_belong_is_never_lost_in_a_merge():
    """A file with `train: 3`, and --epochs on the command line."""
    for low, high, key in (
        ({"train": 3}, {"train": {"epochs": 2}}, "train"),
        ({"train": 3}, {"train": {}}, "train"),
        ({"data": {"split": "time"}}, {"data": {"split": {"valid": 0}}}, "data.split"),
    ):
        with pytest.raises(ConfigError, match=rf"^{key}: must hold settings as `key: value` \(got"):
            merged(low, high)
    assert merged({"train": None}, {"train": {"lr": 1}}) == {"train": {"lr": 1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {epochs: 3}\nseed: 1\ntrain: {lr: 0.1}\n", "'train' stands at line 1 and again at line 3"),
        ("train:\n  lr: 1\n  epochs: 2\n  lr: 3\n", "'lr' stands at line 2 and again at line 4"),
        ("a: [{b: 1, b: 2}]\n", "'b' stands at line 1 and again at line 1"),
    ],
)  # fmt: skip
def test_a_key_that_stands_twice_in_a_file_names_both_lines(tmp_path, text, message):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"run.yaml: {message}"):
        read_yaml(tmp_path / "run.yaml")


def test_an_anchor_may_be_merged_and_overridden(tmp_path):
    (tmp_path / "run.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")
    assert read_yaml(tmp_path / "run.yaml")["b"] == {"x": 3, "y": 2}


class Inner(Config):
    size: int = Field(1, ge=1)


class Outer(Config):
    inner: Inner = Inner()
    speed: float = 1.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sped": 2}, "unknown key part.sped, did you mean 'part.speed'?"),
        ({"inner": {"siz": 2}}, "unknown key part.inner.siz, did you mean 'part.inner.size'?"),
        ({"inner": {"size": 0}}, "part.inner.size: must be at least 1 .got 0."),
        ({"speed": "fast"}, "part.speed: must be a number .got 'fast'."),
    ],
)
def test_build_explains_the_first_fault(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build(Outer, values, "part")
    assert "\n" not in str(caught.value)


def test_a_key_like_no_other_gets_the_list():
    with pytest.raises(ConfigError, match="unknown key zzz; choose from: inner, speed"):
        build(Outer, {"zzz": 1})


def test_settings_are_frozen():
    made = build(Outer, {"speed": 2})
    with pytest.raises(Exception, match="frozen"):
        made.speed = 3


def test_choose_and_nearest():
    assert choose({"lightgcn": 1}, "lightgcn", "model.name") == 1
    with pytest.raises(
        ConfigError, match=r"unknown model.name 'lightgnc', did you mean 'lightgcn'"
    ):
        choose({"lightgcn": 1, "mf": 2}, "lightgnc", "model.name")
    assert nearest("qqq", ["b", "a"]) == "; choose from: a, b"


def test_yaml_errors_name_the_file_and_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("seed: 1\ntrain:\n  lr: [1, 2\nx: 3\n")
    with pytest.raises(ConfigError, match=r"run.yaml: not valid YAML at line 4"):
        read_yaml(path)
    path.write_text("- 1\n- 2\n")
    with pytest.raises(ConfigError, match="must hold settings"):
        read_yaml(path)
    path.write_text("x: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_yaml(path)
    path.write_text("# nothing\n")
    assert read_yaml(path) == {}
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "missing.yaml")


def test_a_path_is_read_as_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 7\n")
    assert read_recipe(str(path)) == {"seed": 7}


def test_unknown_recipe():
    with pytest.raises(ConfigError, match="no recipe named 'qqqqqq'"):
        read_recipe("qqqqqq")


def test_every_shipped_recipe_resolves():
    for name, first_line in list_recipes().items():
        assert first_line, f"{name} has no comment on its first line"
        resolve(read_recipe(name))


@pytest.mark.parametrize("text", ["#id", "|", ">", "Customer #", "a #b"])
def test_what_yaml_takes_for_a_comment_or_the_begin_of_a_text_is_a_name(text):
    assert override({}, [f"data.user={text}"])["data"]["user"] == text


@pytest.mark.parametrize("text", ["~", "null", "NULL", " "])
def test_nothing_is_nothing(text):
    assert override({}, [f"x={text}"]) == {"x": None}


def test_quotes_keep_what_is_in_them():
    assert override({}, ["a=''", 'b="#id"', "c='3'", r'd="\t"']) == {
        "a": "", "b": "#id", "c": "3", "d": "\t",
    }  # fmt: skip


def test_override_of_a_name_starts_the_part_afresh_as_a_flag_does():
    start = {"loss": {"name": "ssm", "temperature": 0.1}, "train": {"lr": 1}}
    pairs = ["loss.margin=3", "loss.name=ccl"]
    assert override(start, pairs) == {"loss": {"name": "ccl", "margin": 3}, "train": {"lr": 1}}
    assert override(start, ["loss.name=ssm"]) == start
    assert override(start, ["loss.name=bpr"]) == merged(start, {"loss": {"name": "bpr"}})


def test_a_function_registered_as_a_part_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(LOSSES, "plain", lambda pos, neg: neg - pos)
    with pytest.raises(
        ConfigError, match=r"loss.name='plain': <function .* is no part, but a class"
    ):
        resolve({"loss": {"name": "plain"}})


def bomb(levels: int) -> str:
    """Lists of nine lists each: two kilobytes that stand for 9 ** levels values."""
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    for n in range(1, levels):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]")
    return "\n".join([*lines, f"seed: *a{levels - 1}"])


@pytest.mark.parametrize("text", [bomb(9), "seed: &a [1, *a]", "seed: &a {b: *a}"])
def test_aliases_that_stand_for_very_much_are_refused(tmp_path, text):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"r\.yaml: has aliases .* write out what is needed"):
        read_yaml(tmp_path / "r.yaml")


def test_lists_within_lists_end_somewhere(tmp_path):
    (tmp_path / "r.yaml").write_text("seed: " + "[" * 5000)
    with pytest.raises(ConfigError, match=r"r\.yaml: is nested more than 50 levels deep"):
        read_yaml(tmp_path / "r.yaml")
    deep = "[" * 5000 + "]" * 5000
    assert override({}, [f"data.source={deep}"]) == {"data": {"source": deep}}


def test_aliases_in_measure_and_long_lists_are_read(tmp_path):
    long = yaml.safe_dump({"ks": list(range(30_000)), "a": [[1, 2]] * 2, "b": {"c": 1}})
    (tmp_path / "r.yaml").write_text(
        bomb(3).replace("seed: *a2", "d: &d {e: 1}\nf: {<<: *d, g: 2}")
    )
    assert read_yaml(tmp_path / "r.yaml")["f"] == {"e": 1, "g": 2}
    (tmp_path / "r.yaml").write_text(long)
    assert len(read_yaml(tmp_path / "r.yaml")["ks"]) == 30_000


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (yaml.safe_load(bomb(8))["seed"], "got [[[[[[[[1, 2, 3"),
        ("x" * 10**6, "got 'xxxx"),
        ({"name": "x" * 10**6}, "got {'name': 'xxxx"),
        ([1 << 99999], "got [a whole number of 100,000 bits]"),
    ],
)  # fmt: skip
def test_a_value_in_a_message_is_cut(value, said):
    for key in ("seed", "train.lr"):
        with pytest.raises(ConfigError) as caught:
            resolve(override({}, []) | _nested(key, value))
        assert said in str(caught.value) and len(str(caught.value)) < 250


def _nested(key, value):
    first, _, second = key.partition(".")
    return {first: {second: value} if second else value}


@pytest.mark.parametrize(
    "value", [1, 1.5, None, True, "a'b", [], {}, (), (1,), [1, "x", (2, 3)], {"a": [None], 2: {}}]
)
def test_a_short_value_is_shown_as_it_is(value):
    assert shown(value) == repr(value)


def test_long_names_of_settings_and_parts_are_cut():
    for settings in (["y" * 10**5 + "=1"], ["model." + "y" * 10**5 + "=1"], ["y" * 10**5]):
        with pytest.raises(ConfigError) as caught:
            resolve(override({}, settings))
        assert len(str(caught.value)) < 1000
    with pytest.raises(ConfigError) as caught:
        choose(LOSSES, "z" * 10**5, "loss")
    assert len(str(caught.value)) < 1000


def test_no_message_is_longer_than_a_screen():
    told = str(ConfigError("begin " + "x" * 10**6 + " end"))
    assert (
        len(told) < 4010 and told.startswith("begin x") and told.endswith("x end") and "…" in told
    )
