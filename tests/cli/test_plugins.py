"""Parts of one's own, named on the command line."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from textwrap import dedent

import pytest

from command_line import ssmrec
from ssmrec import LOSSES
from ssmrec.cli.plugins import load_plugins
from ssmrec.distributed.fit import admit
from ssmrec.distributed.place import Place
from ssmrec.errors import ConfigError, RunError
from ssmrec.recommender import Recommender
from ssmrec.training import resolve

HINGE = dedent(
    """
    import torch
    from torch.nn import functional as F

    from ssmrec import LOSSES
    from ssmrec.losses import Loss, LossConfig, corrected


    class HingeConfig(LossConfig):
        margin: float = 0.4


    class Hinge(Loss):
        Config = HingeConfig

        def forward(self, pos_logits, neg_logits, log_q=None, mask=None):
            negatives = corrected(neg_logits, log_q, mask)
            each = F.relu(self.config.margin + negatives - pos_logits[:, None])
            return each.sum(1) / torch.isfinite(negatives).sum(1).clamp_min(1)


    LOSSES["hinge"] = Hinge
    """
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with hinge.py and rows.csv; `forget()` makes this a process that has imported nothing yet."""
    (tmp_path / "hinge.py").write_text(HINGE)
    rows = [f"{user},{(7 * user + at) % 17}" for user in range(12) for at in range(8)]
    (tmp_path / "rows.csv").write_text("\n".join(["user,item", *rows]) + "\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    forget(monkeypatch)
    yield tmp_path
    forget(monkeypatch)


def forget(monkeypatch):
    LOSSES.pop("hinge", None)
    sys.modules.pop("hinge", None)
    monkeypatch.setenv("SSMREC_PLUGIN", "")


TRAIN = [
    "train",
    "rows.csv",
    "--model",
    "mf",
    "--loss",
    "hinge",
    "--epochs",
    "1",
    "--set",
    "loss.margin=0.2",
    "--out",
    "run",
]


def test_a_loss_of_ones_own_trains_and_its_run_is_read(place, monkeypatch):
    """By file, by module and by the environment, which processes that are started inherit."""
    code, _, err = ssmrec("--plugin", "hinge.py", *TRAIN, cwd=place)
    assert code == 0, err
    assert os.environ["SSMREC_PLUGIN"] == str(place / "hinge.py")
    forget(monkeypatch)
    code, out, err = ssmrec("--plugin", "hinge", "evaluate", "run", cwd=place)
    assert code == 0 and "mf + hinge" in out, err
    forget(monkeypatch)
    monkeypatch.setenv("SSMREC_PLUGIN", str(place / "hinge.py"))
    code, out, err = ssmrec("evaluate", "run", cwd=place)
    assert code == 0 and "mf + hinge" in out, err
    forget(monkeypatch)
    code, _, err = ssmrec("evaluate", "run", cwd=place)
    assert code == 2 and err.startswith("error: run: unknown loss.name 'hinge'")
    assert "`ssmrec --plugin FILE ...`" in err and err.count("\n") == 1
    code, _, err = ssmrec(*TRAIN, cwd=place)
    assert code == 2 and "unknown loss.name 'hinge'" in err and "--plugin FILE" in err


def test_in_python_a_run_asks_for_its_part(place):
    load_plugins(["hinge.py", "hinge.py"])
    assert ssmrec("--plugin", "hinge.py", *TRAIN, cwd=place)[0] == 0
    assert Recommender.load("run").config_.loss["margin"] == 0.2
    del LOSSES["hinge"]
    with pytest.raises(RunError, match="run: unknown loss.name 'hinge'.*a part of your own"):
        Recommender.load("run")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.py", None, r"none.py: cannot be imported \(FileNotFoundError: no such file\)"),
        ("no.such", None, r"no.such: cannot be imported \(ModuleNotFoundError: No module"),
        ("bad.py", "raise SystemExit(3)", r"bad.py: cannot be imported \(SystemExit: 3\)"),
        ("bad.py", "1 / 0", r"bad.py: cannot be imported \(ZeroDivisionError: division by zero\)"),
        ("json.py", "", "there is a module json already: give the file another name"),
    ],
)
def test_what_cannot_be_imported_is_one_line(place, name, content, told):
    if content is not None:
        (place / name).write_text(content)
    with pytest.raises(ConfigError, match=told):
        load_plugins([name])
    assert "bad" not in sys.modules


def test_the_current_folder_is_searched_for_a_plugin_alone(place, monkeypatch):
    """What is installed goes first, and nothing else of the folder can be imported afterwards."""
    (place / "colorsys.py").write_text("raise SystemExit('of the folder')")
    (place / "helpers.py").write_text("MARGIN = 0.4")
    (place / "hinge.py").write_text(f"import helpers\n{HINGE}")
    before = [*sys.path]
    load_plugins(["colorsys", "hinge"])
    assert "hinge" in LOSSES and sys.path == before
    assert os.environ["SSMREC_PLUGIN"] == f"colorsys,{place / 'hinge'}"
    assert not str(sys.modules["colorsys"].__file__).startswith(str(place))
    monkeypatch.delitem(sys.modules, "helpers")
    with pytest.raises(ModuleNotFoundError):
        import_module("helpers")


def test_a_module_of_a_folder_is_found_from_another_one(place, monkeypatch):
    """As processes that are started find it; it may be of a package."""
    (place / "shop").mkdir()
    (place / "shop/losses.py").write_text(f"from . import margins\n{HINGE}")
    (place / "shop/margins.py").write_text("")
    for name in ("shop", "shop.losses", "shop.margins"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("SSMREC_PLUGIN", str(place / "shop.losses"))
    monkeypatch.chdir("/")
    load_plugins([])
    assert LOSSES["hinge"].__module__ == "shop.losses"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("hinge.py", "SSMREC_PLUGIN=hinge.py: would be another file in each folder; set its abs"),
        ("sub/hinge", "SSMREC_PLUGIN=sub/hinge: would be another file in each folder"),
        ("hinge", r"SSMREC_PLUGIN=hinge: cannot be imported .*not installed; .* the absolute path"),
        ("/nowhere/json", r"/nowhere/json: cannot be imported .*a module of this name in /"),
    ],
)
def test_the_variable_names_no_file_of_whatever_folder(place, monkeypatch, value, told):
    monkeypatch.setenv("SSMREC_PLUGIN", value)
    with pytest.raises(ConfigError, match=told):
        load_plugins([])
    assert "hinge" not in LOSSES


def test_options_of_all_commands_stand_before_launch(place):
    words = ("launch", "-n", 2, "--plugin", "hinge.py", *TRAIN)
    code, _, err = ssmrec(*words, cwd=place)
    assert code == 2 and err.startswith(
        "error: --plugin: no option of launch; those of all commands"
    )


def test_a_loss_that_goes_row_by_row_may_be_split(place):
    load_plugins(["hinge.py"])
    config = resolve({"model": {"name": "mf"}, "loss": {"name": "hinge"}})
    two = Place(0, 2, 0, 2)
    with pytest.raises(ConfigError, match="it does not say row_by_row = True"):
        admit(config, two)
    LOSSES["hinge"].row_by_row = True
    admit(config, two)


PLAN = "data: [rows.csv]\nmodels: [{name: mf, dim: 4}]\nlosses: [%s]\nseeds: 1\nbase: {train: {epochs: 1}}\n"


def compared(place, *words):
    code, out, err = ssmrec(*words, "compare", "plan.yaml", "--out", "c", cwd=place)
    assert code == 0, err
    return next(line.split()[3] for line in out.splitlines() if line.startswith("mf + ")), err


def test_another_text_of_an_own_part_is_another_method(place, monkeypatch):
    """Its former results are not taken for its own; the same text again trains nothing."""
    (place / "plan.yaml").write_text(PLAN % "hinge")
    compared(place, "--plugin", "hinge.py")
    compared(place, "--plugin", "hinge.py")
    first = sorted((place / "c" / "results").iterdir())
    assert len(first) == 1
    own = json.loads(first[0].read_text())["own_parts"]
    assert list(own) == ["loss"] and own["loss"].startswith("hinge.Hinge ")
    (place / "hinge.py").write_text(HINGE.replace("each.sum(1)", "2 * each.sum(1)"))
    forget(monkeypatch)
    compared(place, "--plugin", "hinge.py")
    assert len(list((place / "c" / "results").iterdir())) == 2


def test_a_part_in_the_place_of_another_is_told_and_not_taken_for_it(place, monkeypatch):
    (place / "plan.yaml").write_text(PLAN % "ssm")
    (place / "hinge.py").write_text(HINGE.replace('LOSSES["hinge"]', 'LOSSES["ssm"]'))
    with monkeypatch.context() as patch:
        patch.setitem(LOSSES, "ssm", LOSSES["ssm"])
        _, err = compared(place, "--plugin", "hinge.py")
        assert "hinge.py: takes the place of the loss ssm" in err
    forget(monkeypatch)
    _, err = compared(place)
    assert "takes the place" not in err
    own = [json.loads(f.read_text()).get("own_parts") for f in (place / "c" / "results").iterdir()]
    assert len(own) == 2 and None in own


def test_a_loss_that_is_no_value_per_row_is_named(place):
    one = HINGE.partition("        return each")
    (place / "hinge.py").write_text(
        f"{one[0]}        return each.mean()\n\n\nLOSSES['hinge'] = Hinge\n"
    )
    code, _, err = ssmrec("--plugin", "hinge.py", *TRAIN, cwd=place)
    assert code == 2 and "not one value per row" in err
