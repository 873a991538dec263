"""Sections on seconds: ours and other ways to compute the same."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.sections.cells import Result, ms, table, times


def step(result: Result) -> Iterable[str]:
    yield f"## One training step ({result['data']}, batch {result['batch']}, d {result['dim']})\n"
    yield "In-batch sampled softmax, cosine; all sides compute the same losses and tables:\n"
    rows = []
    for name, facts in result["models"].items():
        median = {side: taken["median"] for side, taken in facts["seconds"].items()}
        median["alone"] = facts.get("torch_alone", {}).get("median")
        ratios = [
            times(median[side] / median["ours"]) if median.get(side) else "-"
            for side in ("torch", "torch_autograd", "alone")
        ]
        if ratios[1] == "-":  # no graph, so no transpose to keep
            ratios[:2] = "-", ratios[0]
        rows.append([
            name, ms(median["ours"]), ms(median["torch"]), ratios[1], times(facts["target"]),
            ratios[0], ratios[2], f"{facts['largest_loss_difference']:.0e}",
            f"{facts['table_difference']:.0e}",
        ])  # fmt: skip
    yield table(
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
    first = next(iter(result["models"].values()))
    names = list(first["parts"])
    rows = [
        [model, ms(facts["seconds"]["median"]), *(ms(facts["parts"][name]) for name in names)]
        for model, facts in result["models"].items()
    ]
    yield table(["model", "whole step", *names], rows)
    limits = result["machine_limits"]
    yield (
        f"\nSelf times in torch's profiler, which adds a little of its own. This machine multiplies a "
        f"large square float32 matrix at {limits['product_gflops']:.0f} GFLOP/s and copies memory at "
        f"{limits['copy_gib']:.0f} GiB/s (read and written), so the three products of a step need at "
        f"least {ms(first['limits']['products'])} and Adam, which reads four tables and writes "
        f"three, {ms(first['limits']['optimiser'])} when the tables lie outside the cache."
    )


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
        [names[name], f"{rate:,.0f}", times(result["times_faster"].get(name, 1.0)),
         f"{result['same_items'][name]:.4f}" if name in result["same_items"] else "-"]
        for name, rate in result["users_per_second"].items()
    ]  # fmt: skip
    yield table(["side", "users a second", "ours is times faster", "same items"], rows)
    yield f"\nOurs runs at {result['share_of_limit']:.2f} of the limit. With metrics:\n"
    ours = result["with_metrics"]["ours"]["median"] / users
    rows = [
        [name, f"{facts.get('users', users) / facts['median']:,.0f}",
         times(facts["median"] / facts.get("users", users) / ours)]
        for name, facts in result["with_metrics"].items()
    ]  # fmt: skip
    yield table(["evaluator", "users a second", "ours is times faster"], rows)


def sampling(result: Result) -> Iterable[str]:
    yield f"## Negatives without known positives ({result['data']}, batch {result['batch']})\n"
    yield "Shared: one set for the batch; each of the B x n pairs is checked and masked.\n"
    rows = [
        [case["sampler"], case["kind"], case["n"],
         f"{case['negatives_per_second']['ours'] / 1e6:.2f} M",
         times(case["times_faster"]["redraw"]) if "redraw" in case["times_faster"] else "-",
         times(case["times_faster"]["loop"]), sum(case["known_positives"].values())]
        for case in result["cases"]
    ]  # fmt: skip
    yield table(
        ["sampler", "kind", "n", "ours a second", "against redraw (RecBole's way)",
         "against a loop", "known positives drawn"], rows,
    )  # fmt: skip


def gpu(result: Result) -> Iterable[str]:
    """Tables whose cells are text already; a note may be empty."""
    yield "## On a GPU\n"
    yield f"{result['device']}, torch {result['torch']}."
    for part in result["tables"]:
        yield f"\n**{part['title']}**\n"
        if part["note"]:
            yield f"{part['note']}\n"
        yield table(part["columns"], part["rows"])
