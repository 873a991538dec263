"""`ssmrec settings`: the printed table, and the page made from the same classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ssmrec.cli.settings import page, settings
from ssmrec.data.aliases import ALIASES
from ssmrec.data.config import DataConfig, SplitConfig
from ssmrec.errors import ConfigError
from ssmrec.training import RunConfig, TrainConfig

DOCS = Path(__file__).parents[2] / "docs"

runner = CliRunner()
app = typer.Typer()
app.command()(settings)


def rows(text: str) -> dict[str, list[str]]:
    """Key to default, values, meaning of each Markdown row."""
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {key.strip("`"): rest for key, *rest in cells}


def printed(*arguments: str) -> str:
    result = runner.invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_the_page_is_up_to_date():
    """If not: ssmrec settings --markdown > docs/settings.md."""
    assert (DOCS / "settings.md").read_text() == page() == printed("--markdown")


def test_every_setting_is_there_and_has_a_meaning():
    found = rows(page())
    for where, schema in (
        ("data", DataConfig),
        ("data.split", SplitConfig),
        ("train", TrainConfig),
    ):
        assert {f"{where}.{name}" for name in schema.model_fields} - {"data.split"} <= set(found)
    assert {key.split(".")[0] for key in found} == set(RunConfig.model_fields)
    assert [key for key, row in found.items() if not row[-1].strip()] == []


def test_defaults_values_and_meanings():
    found = rows(page())
    assert found["data.nulls"][:2] == ["`error`", "error, drop"]
    assert found["data.split.test"][:2] == ["`0.2`", "number >= 0, < 1"]
    assert found["data.header"][:2] == ["`null`", "true, false"]
    assert found["evaluation.ks"][:2] == ["`[5, 10, 20]`", "list of integer"]
    lightgcn = rows(printed("model.lightgcn", "--markdown"))
    assert lightgcn["model.alpha"][1] == "[number >= -2 <= 2, number >= -2 <= 2]"
    assert found["train.lr"] == ["`0.001`", "number > 0", "learning rate of Adam"]
    assert found["data.min_user"][2] == found["data.min_item"][2]


def test_a_prefix_chooses_keys_a_section_or_one_key(monkeypatch):
    assert set(rows(printed("data.split", "--markdown"))) == {
        f"data.split.{name}" for name in SplitConfig.model_fields
    }
    bpr = rows(printed("loss.bpr", "--markdown"))
    assert bpr["loss.temperature"][0] == "`1.0`" and set(bpr) == {
        "loss.similarity",
        "loss.prefixes",
        "loss.temperature",
    }
    monkeypatch.setenv("COLUMNS", "80")
    table = printed("train.lr")
    assert "learning rate of Adam" in table and "train.lr_decay" not in table
    with pytest.raises(ConfigError, match="no setting 'train.lrr', did you mean 'train.lr'"):
        runner.invoke(app, ["train.lrr"], catch_exceptions=False)


def test_the_data_page_lists_every_recognised_name():
    listed = rows((DOCS / "data.md").read_text())
    for role, names in ALIASES.items():
        assert listed[f"data.{role}"] == [", ".join(names)]
