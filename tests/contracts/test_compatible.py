"""Run folders load for ever and hold nothing that could run code."""

from __future__ import annotations

import ast
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from safetensors import safe_open

import ssmrec
from ssmrec.recommender import Recommender
from ssmrec.training import load_run

FIXTURES = Path(__file__).parents[1] / "fixtures"
SOURCES = sorted(Path(ssmrec.__file__).parent.rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "torch.save", "yaml.load", "yaml.full_load",
                   "yaml.unsafe_load", "yaml.dump", "pandas.read_pickle", "pd.read_pickle"}  # fmt: skip


OURS = {"ssmrec", *sys.stdlib_module_names}
"""Whose private names may be used: `os._exit` is documented."""
GUARDED = {"torch.ops.mkldnn._linear_pointwise"}
"""Looked for, and done without where it is missing."""


def test_run_of_the_first_version_loads():
    """Written once by the first version and never again: keep it, and keep this test."""
    folder = FIXTURES / "run-v1"
    assert yaml.safe_load((folder / "config.yaml").read_text())["format"] == 1
    recommender = Recommender.load(folder)
    wanted = json.loads((FIXTURES / "run-v1-lists.json").read_text(encoding="utf-8"))
    lists = recommender.recommend(["ü0", "ü7", "ü19"], 4)
    assert lists.select("user", "item").rows() == [(user, item) for user, item, _ in wanted]
    np.testing.assert_allclose(lists["score"], [score for _, _, score in wanted], atol=2e-6)
    assert recommender.metrics_["metric_version"] == 1
    assert recommender.config_.seed == 7 and recommender.config_.loss["temperature"] == 0.15


def test_run_of_the_first_version_is_measured_as_then(command, tmp_path):
    for name in ("shop.csv", "run-v1"):
        source = FIXTURES / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    code, out, err = command("evaluate", "run-v1", "--json")
    assert code == 0, err
    then = json.loads((FIXTURES / "run-v1" / "metrics.json").read_text())["test"]
    assert json.loads(out)["test"] == pytest.approx(then, abs=1e-9)


def test_a_run_without_newer_keys_loads(tmp_path):
    """Settings that came later take their defaults; facts that came later are not asked for."""
    shutil.copytree(FIXTURES / "run-v1", tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    record = yaml.safe_load(path.read_text())
    record = {key: record[key] for key in ("format", "data_fingerprint", "settings")}
    del record["settings"]["train"]["threads"], record["settings"]["ranking"]
    path.write_text(yaml.safe_dump(record))
    assert load_run(tmp_path / "run")[0].config.train.threads is None


def test_run_folder_holds_plain_formats_only(command, tmp_path, shop):
    code, _, err = command("train", shop, "--epochs", 1, "--out", "run")
    assert code == 0, err
    for folder in (tmp_path / "run", FIXTURES / "run-v1"):
        for path in folder.iterdir():
            plain(path)


def plain(path: Path) -> None:
    """Fails unless the whole file is of one of the formats that cannot hold code."""
    match path.suffix:
        case ".safetensors":
            with safe_open(path, framework="pt") as file:
                assert list(file.keys())
            size = int.from_bytes(path.read_bytes()[:8], "little")
            assert json.loads(path.read_bytes()[8 : 8 + size])
        case ".json":
            json.loads(path.read_text())
        case ".jsonl":
            assert [json.loads(line) for line in path.read_text().splitlines()]
        case ".yaml":
            assert "!!" not in path.read_text() and yaml.safe_load(path.read_text())
        case ".parquet":
            schema = pl.read_parquet_schema(path)
            assert set(schema.values()) <= {pl.String, pl.Int32, pl.Int64}
        case _:
            pytest.fail(f"{path.name} is of no format a run may hold")


def faults(source: str) -> list[str]:
    """Imports and calls in Python text that load or make code from data."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.partition(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += (
                [node.module] if str(node.module).partition(".")[0] in FORBIDDEN_MODULES else []
            )
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found += [name] if name in FORBIDDEN_CALLS else []
            found += [
                k.arg for k in node.keywords if k.arg == "allow_pickle" and not is_false(k.value)
            ]
    return found


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def test_sources_neither_pickle_nor_eval():
    assert len(SOURCES) > 50
    for path in SOURCES:
        assert faults(path.read_text(encoding="utf-8")) == [], path


def private(source: str) -> list[str]:
    """Names with a leading underscore that Python text takes from other packages."""
    tree, found, outside = ast.parse(source), [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            outside |= {(a.asname or a.name).partition(".")[0] for a in node.names}
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{a.name}" for a in node.names]
        else:
            continue
        others = [name for name in names if name.partition(".")[0] not in OURS]
        found += [name for name in others if "._" in name]
        if others:
            outside |= {a.asname or a.name for a in node.names if isinstance(node, ast.ImportFrom)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr[0] == "_" and node.attr[:2] != "__":
            root = ast.unparse(node.value).partition(".")[0]
            found += [ast.unparse(node)] if root in outside - OURS else []
    return found


def test_sources_take_no_private_name_of_another_package():
    """What is private may be gone in its next version."""
    assert private("import torch\ntorch._C.x") and private("from pydantic._internal import y")
    assert private("import scipy.sparse as s\ns.a._b") and private("from a import _b")
    assert private("from ssmrec.a import _b\nimport torch\nself._x, torch.nn.__name__") == []
    for path in SOURCES:
        assert set(private(path.read_text(encoding="utf-8"))) <= GUARDED, path


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from pickle import loads", "import torch\ntorch.load('a')", "eval('1')",
        "import numpy as np\nnp.load('a', allow_pickle=True)", "import joblib.memory",
    ],
)  # fmt: skip
def test_the_scan_finds_what_it_looks_for(text):
    assert faults(text)
    assert faults("import numpy as np\nnp.load('a', allow_pickle=False)\nmodel.eval()") == []
