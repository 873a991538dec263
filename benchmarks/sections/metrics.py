"""Sections on the metrics that a training reaches, and after how long."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.recipes import PUBLISHED
from benchmarks.sections.cells import Result, table


def recipes(trained: list[Result]) -> Iterable[str]:
    """Quality of the shipped recipes beside the published figures."""
    yield "## Quality of the recipes\n"
    yield (
        "Full ranking on the published splits, test looked at as the protocol says "
        "([evaluation.md](evaluation.md)). Published: Wu et al., TOIS 2024, mean of 5 runs, whose code "
        "chose the epoch on test. `valid` rows train without the tenth that chooses the epoch, the "
        "published figures with it.\n"
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
    yield table(
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
    yield table(
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
    yield "\n" + table(["method", "seconds", "NDCG@20", "Recall@20"], rows)


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


def _few(points: list[Result]) -> list[Result]:
    """At most seven points of a curve, first, best and last among them."""
    best = max(range(len(points)), key=lambda at: points[at]["ndcg@20"])
    step = max(1, len(points) // 4)
    return [p for at, p in enumerate(points) if at % step == 0 or at in (best, len(points) - 1)]


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
    yield table(["model, way", "seconds", "epochs", "NDCG@20", "Recall@20"], rows)


def kept(result: Result) -> Iterable[str]:
    yield f"## Quality of the faster ways ({result['data']})\n"
    yield (
        f"Test NDCG@20 after the same epochs, fixed beforehand, seeds {result['seeds']}. Change: of the "
        "mean, against the first way of its group.\n"
    )
    rows, first = [], {}
    for way in result["ways"]:
        values = way["ndcg@20"]
        mean = sum(values) / len(values)
        base = first.setdefault(way["group"], mean)
        rows.append([
            way["group"], way["name"], way["epochs"], ", ".join(f"{value:.4f}" for value in values),
            f"{mean:.4f}", f"{100 * (mean / base - 1):+.1f} %", f"{way['epoch_seconds']:.1f} s",
        ])  # fmt: skip
    yield table(["what", "way", "epochs", "NDCG@20 of each seed", "mean", "change", "epoch"], rows)
