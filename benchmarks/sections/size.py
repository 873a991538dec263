"""Sections on memory and seconds as the catalogue or the data grow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.sections.cells import Result, ms, table, times


def softmax(result: Result) -> Iterable[str]:
    yield f"## Full softmax over {result['items']:,} items (d {result['dim']})\n"
    yield "Forward and backward; memory beyond the inputs, gradients included.\n"
    rows = []
    for size in result["sizes"]:
        ours, other = size["ours"], size["torch"]
        if "failed" in other:
            rows.append([size["batch"], f"{ours['extra_gib']:.2f} GiB", other["failed"], "-",
                         ms(ours["seconds"]["median"]), "-", "-"])  # fmt: skip
            continue
        rows.append([
            size["batch"], f"{ours['extra_gib']:.2f} GiB", f"{other['extra_gib']:.2f} GiB",
            times(size["memory_ratio"]), ms(ours["seconds"]["median"]),
            ms(other["seconds"]["median"]), times(size["times_faster"]),
        ])  # fmt: skip
    yield table(
        ["batch", "ours, memory", "torch, memory", "times less", "ours", "torch", "times faster"],
        rows,
    )
    if "torch_extrapolated" in result:
        guess, ours = result["torch_extrapolated"], result["ours_at_largest"]
        yield (
            f"\nAt batch {guess['batch']} ours takes {ours['extra_gib']:.2f} GiB and "
            f"{ms(ours['seconds']['median'])}; torch would take {guess['extra_gib']:.1f} GiB "
            f"({guess['how']}), {result['memory_ratio_at_largest']:.0f} times as much."
        )


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
    yield table(["stage", *(f"{size['pairs']:,} pairs" for size in sizes), "exponent"], rows)
    yield (
        "\nThe exponent is the slope of log seconds over log pairs: 1 is linear. A star marks an epoch "
        "measured in part and scaled. Adam updates every row at every step, so an epoch grows with "
        "steps times rows; `train.optimizer=lazy_adam` updates the rows of the batch."
    )
    for size in sizes:
        for failure in size["failed"]:
            yield f"\n{size['pairs']:,} pairs: {failure}."


def _stage(stage: Result) -> str:
    star = "*" if stage.get("measured_share", 1) < 1 else ""
    return f"{stage['seconds']:.2f} s{star}, {stage['peak_gib']:.1f} GiB"


def padding(result: Result) -> Iterable[str]:
    yield f"## Growth of the catalogue (Table 7 of the paper; {result['data']})\n"
    yield "Items without interactions are added; LightGCN with 3 layers, d 64, batch 2048, one step.\n"
    sizes = dict.fromkeys(row["added"] for row in result["rows"])
    rows = []
    for loss in dict.fromkeys(row["loss"] for row in result["rows"]):
        found = {row["added"]: row for row in result["rows"] if row["loss"] == loss}
        rows.append([loss, *(_padded(found[size]) for size in sizes)])
    yield table(["loss", *(f"+ {size:,} items" for size in sizes)], rows)
    said = [
        f"{loss}: {growth['step']:.1f} times the time and {growth['peak_gib']:.1f} times the memory"
        for loss, growth in result["growth"].items()
    ]
    yield f"\nWith the most items added, against none, {'; '.join(said)}."


def _padded(row: Result) -> str:
    return f"{ms(row['step'])}, {row['peak_gib']:.2f} GiB" if "step" in row else row["failed"]


def processes(result: Result) -> Iterable[str]:
    yield f"## Several processes on one machine ({result['data']})\n"
    yield (
        "A training step, in-batch sampled softmax, d 64: milliseconds, and how many times faster than one "
        "process with one thread. All sides end with the same loss.\n"
    )
    sides = list(next(iter(result["steps"].values()))["sides"])
    rows = [
        [what, *(f"{ms(f['sides'][s]['median'])} ({times(f['times_faster'][s])})" for s in sides)]
        for what, f in result["steps"].items()
    ]
    yield table(["trained", *sides], rows)
    if result["tables"]:
        yield (
            "\nSharded tables (`mf`, 2,048 pairs a step, as many items as users): what each process grew by, "
            "from before the table to after some steps, beside table, gradient and moments by the formula "
            "16 n d / P.\n"
        )
        yield table(
            ["users, and items", "d", "processes", "each process grew by", "formula", "a step"],
            [
                [
                    f"{size['users']:,}", size["dim"], size["processes"],
                    ", ".join(f"{grown / 1e6:,.0f}" for grown in size["grown"]) + " MB",
                    f"{size['formula'] / 1e6:,.0f} MB", ms(size["seconds"]["median"]),
                ]
                for size in result["tables"]
            ],
        )  # fmt: skip
