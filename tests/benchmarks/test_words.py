"""Figures that the pages repeat in words are those of the tables and results that they repeat."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RESULTS = ROOT / "experiments" / "results"
NUMBER = r"(\d+(?:\.\d+)?)"


def cell(page: str, under: tuple[str, ...], row: str, column: str) -> str:
    """Of the first table below the lines `under`, each below the one before it."""
    text = (DOCS / page).read_text()
    for line in under:
        text = text[text.index(f"\n{line}\n") + len(line) + 1 :]
    lines = iter(text[text.index("\n| ") + 1 :].splitlines())
    columns = next(lines).split("|")
    found = next(line for line in lines if line.startswith(f"| {row} |"))
    return found.split("|")[columns.index(f" {column} ")]


def board(data: str, model: str, loss: str) -> str:
    """Change of a loss against `ssm` on the leaderboard."""
    under = (f"<!-- {data} -->", f"### {data}, {model}")
    return cell("leaderboard.md", under, f"`{loss}`", "change")


def run(plan: str, data: str, method: str, column: str = "ndcg@20") -> str:
    """A figure of the page of experiments."""
    return cell("experiments.md", (f"<!-- {plan} -->", f"### {data}"), method, column)


def kept(way: str, column: str = "change") -> str:
    """A figure of the faster ways on Gowalla."""
    return cell("benchmarks.md", ("## Quality of the faster ways (gowalla)",), way, column)


def shifted(method: str, column: str = "change") -> str:
    """A figure of the test with a popularity shift."""
    return cell("../experiments/results/shift/table.md", (), method, column)


def noisy(loss: str, column: str) -> str:
    """A figure of the test with noise."""
    under = ("Test NDCG@20 of seed 0 with and without, and p by Holm:",)
    return cell("findings.md", under, f"`{loss}`", column)


RETAIL, ANEW, ELECTRONIC = "online-retail", "online-retail-anew", "amazon-electronic"
TABLE2, BETA, N = "small-table2", "lightgcn + ssm, beta=", "lightgcn + ssm, n="
BATCH, MF, GCN = "batch, LightGCN-1 | B", "mf", "lightgcn"
WORDS = {
    # which-loss.md
    "`directau`, which has no negatives either, was # and # % behind with MF, # and # % with LightGCN":
        [(board, data, model, "directau") for model in (MF, GCN) for data in (RETAIL, ELECTRONIC)],
    "`bce` is # and # % behind `ssm` with MF, # % with LightGCN on online-retail":
        [(board, RETAIL, MF, "bce"), (board, ELECTRONIC, MF, "bce"), (board, RETAIL, GCN, "bce")],
    "with its own sampler # and # % behind with MF, # and # % with LightGCN":
        [(board, data, model, "bpr") for model in (MF, GCN) for data in (RETAIL, ELECTRONIC)],
    "Behind `ssm` with MF on online-retail (-# and -# %)":
        [(board, RETAIL, MF, loss) for loss in ("dcl", "hcl")],
    "with LightGCN `sce` (# %), `ihn` (# %), `mmcl` (# %) and `bsl` (# %) are ahead":
        [(board, ELECTRONIC, GCN, loss) for loss in ("sce", "ihn", "mmcl", "bsl")],
    "are ahead of `ssm`, with MF `bsl` (# %)": [(board, ELECTRONIC, MF, "bsl")],
    "and `sl` (# %), `ccl` (# %), `mmcl` (# %) and `sce` (# %) behind":
        [(board, RETAIL, MF, loss) for loss in ("sl", "ccl", "mmcl", "sce")],
    "+# % on online-retail, +# % with its split drawn anew, +# % on amazon-electronic":
        [(run, "small-fig3", data, f"{BETA}{beta}", "change")
         for data, beta in ((RETAIL, 0.6), (ANEW, 0.6), (ELECTRONIC, 0.2))],
    "16 are level with 1024 on online-retail (+# %, p #)":
        [(run, "small-fig4", RETAIL, f"{N}16", column) for column in ("change", "p")],
    "16 stay # % behind 1024 and 64 stay # % (p < 0.001), 256 stay # %":
        [(run, "small-fig4", ELECTRONIC, f"{N}{n}", "change") for n in (16, 64, 256)],
    "256 stay 0.6 % (p #)": [(run, "small-fig4", ELECTRONIC, f"{N}256", "p")],
    "(#): `bc` -# %, `advinfonce` -# %, `popdcl` -# %, not told apart, `bpr` -# %":
        [(shifted, "mf + ssm", "ndcg@20"),
         *((shifted, f"mf + {loss}") for loss in ("bc", "advinfonce", "popdcl", "bpr"))],
    "`ease` has +# %, not told apart either (p #)":
        [(shifted, "ease", column) for column in ("change", "p")],
    "`ssm` goes from # to #, `bsl` from # to #":
        [(noisy, loss, column) for loss in ("ssm", "bsl") for column in ("without noise", "with noise")],
    "`dcl` is # % behind it, `bpr` # %":
        [(noisy, loss, "against `ssm`, both with noise") for loss in ("dcl", "bpr")],
    # experiments.md
    "MF + SSM, SVD++ + SSM, LightGCN + SSM: #, # and # on online-retail (five seeds)":
        [(run, TABLE2, RETAIL, f"{model} + ssm") for model in (MF, "svdpp", GCN)],
    "(five seeds), #, # and # on amazon-electronic (one)":
        [(run, TABLE2, ELECTRONIC, f"{model} + ssm") for model in (MF, "svdpp", GCN)],
    "(SM) has # with LightGCN, # with NGCF and # with SVD++, CCL #, # and #, SSM #, # and #;":
        [(run, TABLE2, RETAIL, f"{model} + {loss}")
         for loss in ("sm", "ccl", "ssm") for model in (GCN, "ngcf", "svdpp")],
    "LightGCN has # with BCE, # with BPR, # with CCL and # with SSM":
        [(run, TABLE2, ELECTRONIC, f"{GCN} + {loss}") for loss in ("bce", "bpr", "ccl", "ssm")],
    "NGCF # with SM and # with SSM, SVD++ # and #.":
        [(run, TABLE2, ELECTRONIC, f"{model} + {loss}")
         for model in ("ngcf", "svdpp") for loss in ("sm", "ssm")],
    # findings.md
    "`lazy_adam` for MF is # % below dense Adam": [(kept, "optimiser, MF | lazy_adam")],
    "rate is # % better than 2048": [(kept, f"{BATCH} 4096, lr 0.001")],
    "better than 2048 (# against # after":
        [(kept, f"{BATCH} {size}, lr 0.001", "mean") for size in (4096, 2048)],
    "costs # % (4096, 2e-3) to # % (8192, 4e-3)":
        [(kept, f"{BATCH} 4096, lr 0.002"), (kept, f"{BATCH} 8192, lr 0.004")],
    "(4096 with 1.4e-3: # %, 8192 with 2e-3: # %)":
        [(kept, f"{BATCH} 4096, lr 0.0014"), (kept, f"{BATCH} 8192, lr 0.002")],
}  # fmt: skip
"""Words with # for each figure, and where to ask for the cells that the figures round."""


@pytest.fixture(scope="module")
def said() -> str:
    pages = ("which-loss.md", "experiments.md", "findings.md")
    return " ".join(" ".join((DOCS / page).read_text() for page in pages).split())


@pytest.mark.parametrize("words", WORDS)
def test_words_say_what_the_table_says(words, said):
    found = re.search(re.escape(words).replace(r"\#", NUMBER), said)
    assert found, f"no page says: {words}"
    for figure, (ask, *where) in zip(found.groups(), WORDS[words], strict=True):
        shown = ask(*where)
        unit = 10.0 ** -len(figure.partition(".")[2])
        value = re.search(NUMBER, shown)
        # The cell is rounded too, so that half a unit and a little is still the same figure.
        assert value and abs(float(figure) - float(value[1])) < 0.56 * unit, (figure, shown)


@pytest.mark.parametrize("loss", ["ssm", "sl", "bsl", "psl", "dcl", "bpr"])
def test_noise_is_held_against_the_same_seed_without_it(loss):
    plain, noisy = (
        json.loads(next((RESULTS / folder / "results").glob(name)).read_text())["metrics"][
            "ndcg@20"
        ]
        for folder, name in (
            ("leaderboard", f"online-retail-mf-{loss}-s0-*.json"),
            ("noise", f"noise-mf-{loss}-s0-*.json"),
        )
    )
    change = f"{noisy / plain - 1:+.1%}".replace("%", " %")
    row = f"| `{loss}` | {plain:.4f} | {noisy:.4f} | {change} |"
    assert row in (DOCS / "findings.md").read_text(), row
