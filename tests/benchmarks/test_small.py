"""The benchmarks run, both sides compute the same, and the page is made. Nothing here asks for speed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "step", "shares", "evaluation", "softmax", "sampling", "growth", "padding-yelp2018",
    "quality-gowalla", "kept-gowalla", "update-ml-1m-time", "processes", "gpu",
)  # fmt: skip

pytestmark = pytest.mark.slow


def run(*arguments: object) -> str:
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Results of one small run of everything; no other library's environment is made."""
    path = tmp_path_factory.mktemp("results")
    run("benchmarks", *NAMES, "--small", "--results", path, "--venvs", path / "none")
    return path


@pytest.fixture(scope="session")
def results(folder) -> dict[str, dict]:
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in NAMES}


def test_every_result_says_how_to_repeat_it(results):
    for name, facts in results.items():
        assert facts["name"] == name and facts["small"] is True and facts["seed"] == 0
        assert facts["command"].startswith("python -m benchmarks")
        assert facts["machine"]["cores"] >= 1 and facts["machine"]["memory_gib"] > 0
        assert {"python", "ssmrec", "torch", "numba"} <= set(facts["versions"])


def test_steps_of_both_sides_compute_the_same(results):
    models = results["step"]["result"]["models"]
    assert set(models["lightgcn-1"]["seconds"]) == {"ours", "torch", "torch_autograd"}
    assert set(models) == {"lightgcn-1", "lightgcn-3", "svdpp", "mf"}
    for facts in models.values():
        assert facts["largest_loss_difference"] < 1e-5 * facts["last_loss"]
        assert facts["table_difference"] < 1e-3
        assert 0 < facts["times_faster"]["torch"] < math.inf


def test_shares_add_up_to_the_profiled_step(results):
    found = results["shares"]["result"]
    assert found["machine_limits"]["product_gflops"] > 0
    for name, facts in found["models"].items():
        parts = facts["parts"]
        assert parts["products"] > 0 and parts["exponentials"] > 0 and parts["optimiser"] > 0
        assert (parts["propagation forward"] > 0) == (name != "mf")
        assert sum(parts.values()) > 0.5 * facts["seconds"]["quartiles"][0]


def test_softmax_of_both_sides_is_the_same_and_memory_is_measured(results):
    found = results["softmax"]["result"]
    assert [size["batch"] for size in found["sizes"]] == [64, 128]
    for size in found["sizes"]:
        assert size["largest_difference"] < 1e-4
        assert 0 < size["times_faster"] < math.inf and 0 < size["memory_ratio"] < math.inf


def test_lists_of_all_evaluators_are_the_same(results):
    found = results["evaluation"]["result"]
    assert found["users"] == 4076
    # Products summed in another order may swap two items with nearly equal scores at the cut.
    assert all(share > 0.999 for share in found["same_items"].values())
    assert "torch" in found["same_items"]
    assert all(0 < rate < math.inf for rate in found["users_per_second"].values())


def test_no_sampler_draws_a_known_positive(results):
    cases = results["sampling"]["result"]["cases"]
    assert {case["kind"] for case in cases} == {"own", "shared"}
    for case in cases:
        assert set(case["known_positives"].values()) == {0}
        assert all(0 < ratio < math.inf for ratio in case["times_faster"].values())


def test_growth_has_every_stage_at_both_sizes(results):
    found = results["growth"]["result"]
    stages = [[stage["stage"] for stage in size["stages"]] for size in found["sizes"]]
    assert stages[0] == stages[1] and len(stages[0]) == 11
    assert [size["failed"] for size in found["sizes"]] == [[], []]
    loaded = [s for size in found["sizes"] for s in size["stages"] if "pairs" in s]
    assert [stage["pairs"] for stage in loaded] == [50_000, 100_000]
    assert all(math.isfinite(slope["whole"]) for slope in found["exponents"].values())


def test_padding_adds_items_and_nothing_else(results):
    found = results["padding-yelp2018"]["result"]
    sizes = {(row["loss"], row["added"]): row["items"] for row in found["rows"]}
    assert (
        sizes["ssm", 2000] - sizes["ssm", 0] == sizes["softmax", 2000] - sizes["softmax", 0] == 2000
    )
    assert all(
        0 < ratio < math.inf for growth in found["growth"].values() for ratio in growth.values()
    )


def test_curves_rise_above_their_random_start(results):
    found = results["quality-gowalla"]["result"]
    assert found["data"] == "online-retail"  # the small setting asks for no other data
    curves = found["curves"]
    start, last = curves["ours"]["points"]
    assert start["seconds"] < last["seconds"]
    assert start["ndcg@20"] < 0.01 < 0.03 < last["ndcg@20"] < 1
    for curve in curves.values():
        assert all(0 <= point["recall@20"] <= 1 for point in curve["points"])


def test_an_update_is_held_against_training_afresh(results):
    found = results["update-ml-1m-time"]["result"]
    assert found["data"] == "online-retail"  # the small setting asks for no other data
    assert found["known"] > 10 * found["new"] > 0 and found["test"] > 0
    for facts in found["models"].values():
        ways = facts["ways"]
        assert ways["update"]["epochs"] <= ways["afresh"]["epochs"]
        assert all(0 < way["ndcg@20"] < 1 and way["seconds"] > 0 for way in ways.values())
        assert facts["counts"]["pairs_new"] == found["new"]


def test_all_processes_end_where_one_does(results):
    found = results["processes"]["result"]
    for facts in found["steps"].values():
        one, *others = facts["losses"].values()
        assert others == pytest.approx([one, one], rel=1e-4)
        assert all(0 < ratio < math.inf for ratio in facts["times_faster"].values())
    for size in found["tables"]:  # none without TorchRec
        assert len(size["grown"]) == size["processes"] == 2
        assert size["formula"] == 16 * 4000 * 16 // 2 < min(size["grown"])


def test_kept_kernels_train_to_the_same_quality(results):
    ways = {way["name"]: way for way in results["kept-gowalla"]["result"]["ways"]}
    plain, ours = ways["plain torch"]["ndcg@20"], ways["ours"]["ndcg@20"]
    assert ours == pytest.approx(plain, rel=5e-3)
    assert len(ways) == 10 and all(0 < value < 1 for w in ways.values() for value in w["ndcg@20"])


def test_gpu_steps_end_where_plain_torch_does(results):
    tables = {table["title"]: table for table in results["gpu"]["result"]["tables"]}
    assert all(float(row[-1]) < 1e-4 for row in tables["One training step"]["rows"])
    assert float(tables["Softmax over all items"]["rows"][0][-2]) < 1e-5


def test_page_shows_every_section(folder):
    page = folder / "page.md"
    run("benchmarks.report", "--results", folder, "--out", page)
    text = page.read_text()
    assert text.count("\n## ") == len(NAMES)
    assert "Small setting: not a measurement" in text and "times faster" in text


def test_unknown_name_is_refused():
    command = [sys.executable, "-m", "benchmarks", "speed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "no benchmark named 'speed'" in done.stderr
