"""`python -m benchmarks.report`: docs/benchmarks.md from the JSON files of the last runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.recipes import PUBLISHED

ROOT = Path(__file__).resolve().parent.parent
Result = dict[str, Any]


def main() -> None:
    """Read every NAME.json of a folder and write one page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    options = parser.parse_args()
    found = {path.stem: json.loads(path.read_text()) for path in options.results.glob("*.json")}
    files = sorted((options.results / "recipes").glob("*.json"))
    trained = [json.loads(path.read_text()) for path in files]
    if not trained and not any(name.partition("-")[0] in SECTIONS for name in found):
        parser.error(f"no results in {options.results}: run `python -m benchmarks` first")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(render(found, trained))
    print(options.out)


def render(found: dict[str, Result], trained: list[Result]) -> str:
    """The page: trained recipes, then a section for each benchmark that has a result."""
    parts = [INTRODUCTION]
    if trained:
        parts.append("\n".join(recipes(trained)))
    for kind, section in SECTIONS.items():
        for name in sorted(name for name in found if name.partition("-")[0] == kind):
            facts = found[name]
            parts.append("\n".join([*section(facts["result"]), "", _provenance(facts)]))
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """# Benchmarks

Written by `python -m benchmarks.report` from `benchmarks/results/*.json`; do not edit by hand.
`make bench` repeats all but the recipes (`python -m benchmarks.recipes NAME`). Nothing here was run on
a GPU: the Triton kernels are tested by Triton's interpreter on a CPU only. Seconds belong to the
machine named under each table; what carries over is the ratio of the sides measured in the same run.
Times are medians; "times faster" is the other side's median over ours, so below 1 means that ours is
slower."""


def recipes(trained: list[Result]) -> Iterable[str]:
    """Quality of the shipped recipes beside the published figures."""
    yield "## Quality of the recipes\n"
    yield (
        "Full ranking on the published splits, test looked at as the protocol says "
        "([evaluation.md](evaluation.md)). Published: Wu et al., TOIS 2024, mean of 5 runs, whose code "
        "chose the epoch on test. `valid` rows train without the tenth that chooses the epoch, which "
        "costs about a tenth of the metric here.\n"
    )
    rows = []
    for facts in trained:
        metrics, test = facts["metrics"], facts["metrics"]["test"]
        paper = PUBLISHED.get(facts["recipe"])
        rows.append([
            facts["recipe"], f"{test['recall@20']:.4f}", f"{test['ndcg@20']:.4f}",
            f"{paper[0]:.4f} / {paper[1]:.4f}" if paper else "-",
            metrics["protocol"] + (" (chosen on TEST)" if metrics["selected_on"] == "test" else ""),
            metrics["best_epoch"], facts["settings"]["seed"], f"{metrics['seconds']['train']:.0f}",
            f"{(metrics['peak_memory_bytes'] or 0) / 2**30:.2f}", facts["machine"]["load_before"],
        ])  # fmt: skip
    yield _table(
        ["recipe", "Recall@20", "NDCG@20", "published R / N", "protocol", "epochs", "seed",
         "train s", "peak GiB", "load before"], rows,
    )  # fmt: skip
    yield "\nCommands:\n"
    for facts in trained:
        yield f"- `{facts['command']}`"
    machine = trained[-1]["machine"]
    yield (
        f"\n{machine['processor']}, {machine['cores']} cores; results in "
        "`benchmarks/results/recipes`, repeated by `python -m benchmarks.recipes NAME`. Where the load "
        "before was above 1 other work ran on the machine: the seconds are then an upper bound."
    )


def step(result: Result) -> Iterable[str]:
    yield f"## One training step ({result['data']}, batch {result['batch']}, d {result['dim']})\n"
    yield "In-batch sampled softmax, cosine; all sides compute the same losses and tables:\n"
    rows = []
    for name, facts in result["models"].items():
        median = {side: times["median"] for side, times in facts["seconds"].items()}
        median["alone"] = facts.get("torch_alone", {}).get("median")
        ratios = [
            _times(median[side] / median["ours"]) if median.get(side) else "-"
            for side in ("torch", "torch_autograd", "alone")
        ]
        if ratios[1] == "-":  # no graph, so no transpose to keep
            ratios[:2] = "-", ratios[0]
        rows.append([
            name, _ms(median["ours"]), _ms(median["torch"]), ratios[1], _times(facts["target"]),
            ratios[0], ratios[2], f"{facts['largest_loss_difference']:.0e}",
            f"{facts['table_difference']:.0e}",
        ])  # fmt: skip
    yield _table(
        ["model", "ours", "torch, kept transpose", "faster than autograd", "target",
         "than kept transpose", "than torch alone", "loss difference", "table difference"], rows,
    )  # fmt: skip
    yield (
        "\nThe target is for torch as one writes it: sparse CSR, and autograd, which makes the "
        "transpose at every step. Torch whose author keeps the transpose for the backward pass comes "
        "closer, and against that the graph models are below the same numbers. Torch alone: in a "
        "process of its own under OpenMP's own wait policy (ssmrec sets `OMP_WAIT_POLICY=PASSIVE`). "
        "Loss difference: the largest over all steps. Table difference: length of the difference "
        "over the length of the way the table moved."
    )


def shares(result: Result) -> Iterable[str]:
    yield f"## Where a step's time goes ({result['data']}, batch {result['batch']}, d {result['dim']})\n"
    names = list(next(iter(result["models"].values()))["parts"])
    rows = [
        [model, _ms(facts["seconds"]["median"]), *(_ms(facts["parts"][name]) for name in names)]
        for model, facts in result["models"].items()
    ]
    yield _table(["model", "whole step", *names], rows)
    limits, first = result["machine_limits"], next(iter(result["models"].values()))
    yield (
        f"\nSelf times in torch's profiler, which adds a little of its own. This machine multiplies a "
        f"large square float32 matrix at {limits['product_gflops']:.0f} GFLOP/s and copies memory at "
        f"{limits['copy_gib']:.0f} GiB/s (read and written), so the three products of a step need at "
        f"least {_ms(first['limits']['products'])} and Adam, which reads four tables and writes "
        f"three, {_ms(first['limits']['optimiser'])} when the tables lie outside the cache."
    )


def quality(result: Result) -> Iterable[str]:
    source = result["data"]
    yield f"## Time to quality ({source})\n\n![test NDCG@20 over seconds](quality-{source}.svg)\n"
    yield (
        "Test NDCG@20 over the seconds after the data are in memory; graph, initial weights and steps "
        "count, compilation and evaluation do not. Every method is judged by the same evaluator. "
        "Ours: the first epochs of the recipe, from a random and from the spectral start with 64 to 256 "
        "dimensions, and the closed-form SVD with 64 to 512 dimensions. Settings of implicit come "
        "from validation pairs; RecBole has its own defaults and only its first epochs are shown.\n"
    )
    rows = []
    for entry in result["against"]:
        reached = entry["ours_reached_it_after"]
        rows.append([
            entry["method"], f"{entry['best_ndcg@20']:.4f}", f"{entry['seconds']:.1f} s",
            *(_reached(reached, kind, entry["seconds"]) for kind in KINDS.values()),
            f"{entry['ours_best_by_then']:.4f}",
            "{} of {}".format(*entry["ours_ahead_at_its_points"]),
        ])  # fmt: skip
    yield _table(
        ["method", "its best", "after", *(f"{kind} reached it" for kind in KINDS),
         "ours by then", "ours ahead at its points"], rows,
    )  # fmt: skip
    yield (
        "\nSVD is a closed form without training; each of its points is a solution of its own from the "
        "start. Ours by then, ours ahead: the best of all ours at that second.\n"
    )
    rows = [
        [name, f"{p['seconds']:.1f} s", f"{p['ndcg@20']:.4f}", f"{p['recall@20']:.4f}"]
        for name, curve in result["curves"].items()
        for p in _few(curve["points"])
    ]
    yield "\n" + _table(["method", "seconds", "NDCG@20", "Recall@20"], rows)


KINDS = {
    "svd": "ours, svd",
    "lightgcn, spectral start,": "ours, spectral",
    "lightgcn, random start,": "ours",
}
"""What ours is called in a table, and how the names of its curves begin."""


def _reached(reached: Result, start: str, theirs: float) -> str:
    """When a kind of ours had the other's best, and how many times sooner that was."""
    own = [
        seconds
        for name, seconds in reached.items()
        if seconds and (name == "ours" if start == "ours" else name.startswith(start))
    ]
    return f"{min(own):.1f} s ({theirs / min(own):.2f}x)" if own else "not by its last point"


def evaluation(result: Result) -> Iterable[str]:
    users, items = result["users"], result["items"]
    yield f"## Full ranking ({result['data']}: {users} users, {items} items, top 20)\n"
    names = {
        "ours": "ours: `ranking.top_k`, train items left out",
        "product": "limit: the blocked product that ours uses, alone",
        "matmul": "torch's blocked product alone",
        "matmul_topk": "blocked product + `torch.topk`, nothing left out",
        "torch": "blocked product + mask + `torch.topk`",
        "implicit": "`implicit` recommend, one BLAS thread",
        "implicit_all_blas": "`implicit` recommend, all BLAS threads",
    }
    rows = [
        [names[name], f"{rate:,.0f}", _times(result["times_faster"].get(name, 1.0)),
         f"{result['same_items'][name]:.4f}" if name in result["same_items"] else "-"]
        for name, rate in result["users_per_second"].items()
    ]  # fmt: skip
    yield _table(["side", "users a second", "ours is times faster", "same items"], rows)
    yield f"\nOurs runs at {result['share_of_limit']:.2f} of the limit. With metrics:\n"
    ours = result["with_metrics"]["ours"]["median"] / users
    rows = [
        [name, f"{facts.get('users', users) / facts['median']:,.0f}",
         _times(facts["median"] / facts.get("users", users) / ours)]
        for name, facts in result["with_metrics"].items()
    ]  # fmt: skip
    yield _table(["evaluator", "users a second", "ours is times faster"], rows)


def softmax(result: Result) -> Iterable[str]:
    yield f"## Full softmax over {result['items']:,} items (d {result['dim']})\n"
    yield "Forward and backward; memory beyond the inputs, gradients included.\n"
    rows = []
    for size in result["sizes"]:
        ours, other = size["ours"], size["torch"]
        if "failed" in other:
            rows.append([size["batch"], f"{ours['extra_gib']:.2f} GiB", other["failed"], "-",
                         _ms(ours["seconds"]["median"]), "-", "-"])  # fmt: skip
            continue
        rows.append([
            size["batch"], f"{ours['extra_gib']:.2f} GiB", f"{other['extra_gib']:.2f} GiB",
            _times(size["memory_ratio"]), _ms(ours["seconds"]["median"]),
            _ms(other["seconds"]["median"]), _times(size["times_faster"]),
        ])  # fmt: skip
    yield _table(
        ["batch", "ours, memory", "torch, memory", "times less", "ours", "torch", "times faster"],
        rows,
    )
    if "torch_extrapolated" in result:
        guess, ours = result["torch_extrapolated"], result["ours_at_largest"]
        yield (
            f"\nAt batch {guess['batch']} ours takes {ours['extra_gib']:.2f} GiB and "
            f"{_ms(ours['seconds']['median'])}; torch would take {guess['extra_gib']:.1f} GiB "
            f"({guess['how']}), {result['memory_ratio_at_largest']:.0f} times as much."
        )


def sampling(result: Result) -> Iterable[str]:
    yield f"## Negatives without known positives ({result['data']}, batch {result['batch']})\n"
    yield "Shared: one set for the batch; each of the B x n pairs is checked and masked.\n"
    rows = [
        [case["sampler"], case["kind"], case["n"],
         f"{case['negatives_per_second']['ours'] / 1e6:.2f} M",
         _times(case["times_faster"]["redraw"]) if "redraw" in case["times_faster"] else "-",
         _times(case["times_faster"]["loop"]), sum(case["known_positives"].values())]
        for case in result["cases"]
    ]  # fmt: skip
    yield _table(
        ["sampler", "kind", "n", "ours a second", "against redraw (RecBole's way)",
         "against a loop", "known positives drawn"], rows,
    )  # fmt: skip


def growth(result: Result) -> Iterable[str]:
    yield "## Growth\n"
    yield "Made-up data with 50 pairs a user and 200 an item; batch 2048, d 64. Peak is of the process.\n"
    sizes = result["sizes"]
    names = list(dict.fromkeys(stage["stage"] for size in sizes for stage in size["stages"]))
    rows = []
    for name in names:
        row: list[Any] = [name]
        for size in sizes:
            stage = next((s for s in size["stages"] if s["stage"] == name), None)
            row.append(_stage(stage) if stage else "-")
        slope = result["exponents"].get(name)
        rows.append([*row, f"{slope['whole']:.2f}" if slope else "-"])
    yield _table(["stage", *(f"{size['pairs']:,} pairs" for size in sizes), "exponent"], rows)
    yield (
        "\nThe exponent is the slope of log seconds over log pairs: 1 is linear. A star marks an epoch "
        "measured in part and scaled. Adam updates every row at every step, so an epoch grows with "
        "steps times rows; `train.optimizer=lazy_adam` updates the rows of the batch."
    )
    for size in sizes:
        for failure in size["failed"]:
            yield f"\n{size['pairs']:,} pairs: {failure}."


def update(result: Result) -> Iterable[str]:
    """Ways to take up new pairs, for each model."""
    yield f"## Update against training afresh ({result['data']})\n"
    train = result["train"]
    yield (
        f"Pairs in the order of time: {result['known']:,} were learned, {result['new']:,} are new, "
        f"{result['test']:,} are to be found. At most {train['epochs']} epochs, patience "
        f"{train['patience']}; all epochs are chosen on the same tenth of the new pairs. Before: the "
        "run before, new users begun from their items; its seconds were spent earlier. "
        "The update without an addition is the default, a quarter of its epochs.\n"
    )
    rows = []
    for model, facts in result["models"].items():
        for name, way in facts["ways"].items():
            best = (
                f"{way['epochs']}, best {way['best_epoch']}"
                if "best_epoch" in way
                else way["epochs"]
            )
            rows.append([
                f"{model}, {name}", f"{way['seconds']:.1f} s", best, f"{way['ndcg@20']:.4f}",
                f"{way['recall@20']:.4f}",
            ])  # fmt: skip
    yield _table(["model, way", "seconds", "epochs", "NDCG@20", "Recall@20"], rows)


def padding(result: Result) -> Iterable[str]:
    yield f"## Growth of the catalogue (Table 7 of the paper; {result['data']})\n"
    yield "Items without interactions are added; LightGCN with 3 layers, d 64, batch 2048, one step.\n"
    sizes = dict.fromkeys(row["added"] for row in result["rows"])
    rows = []
    for loss in dict.fromkeys(row["loss"] for row in result["rows"]):
        found = {row["added"]: row for row in result["rows"] if row["loss"] == loss}
        rows.append([loss, *(_padded(found[size]) for size in sizes)])
    yield _table(["loss", *(f"+ {size:,} items" for size in sizes)], rows)
    said = [
        f"{loss}: {growth['step']:.1f} times the time and {growth['peak_gib']:.1f} times the memory"
        for loss, growth in result["growth"].items()
    ]
    yield f"\nWith the most items added, against none, {'; '.join(said)}."


def _padded(row: Result) -> str:
    return f"{_ms(row['step'])}, {row['peak_gib']:.2f} GiB" if "step" in row else row["failed"]


def _stage(stage: Result) -> str:
    star = "*" if stage.get("measured_share", 1) < 1 else ""
    return f"{stage['seconds']:.2f} s{star}, {stage['peak_gib']:.1f} GiB"


SECTIONS: dict[str, Callable[[Result], Iterable[str]]] = {
    "step": step,
    "shares": shares,
    "quality": quality,
    "evaluation": evaluation,
    "softmax": softmax,
    "sampling": sampling,
    "growth": growth,
    "padding": padding,
    "update": update,
}


def _provenance(facts: Result) -> str:
    machine, versions = facts["machine"], facts["versions"]
    small = " **Small setting: not a measurement.**" if facts["small"] else ""
    return (
        f"`{facts['command']}` on {facts['started'][:10]}, {facts['seconds'] / 60:.1f} minutes, seed "
        f"{facts['seed']}; {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, load before {machine['load_before']}; "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + f".{small}"
    )


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _few(points: list[Result]) -> list[Result]:
    """At most six points of a curve, first, best and last among them."""
    best = max(range(len(points)), key=lambda at: points[at]["ndcg@20"])
    step = max(1, len(points) // 4)
    return [p for at, p in enumerate(points) if at % step == 0 or at in (best, len(points) - 1)][:8]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x"


if __name__ == "__main__":
    main()
