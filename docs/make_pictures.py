"""Draw docs/pictures/*.svg: what each negative weighs in the gradient of a loss, by autograd.

    python docs/make_pictures.py

One row of a batch: a positive, and negatives that are spread evenly over the similarities. All settings
are defaults, log q is left out (every negative was drawn equally often), and what a loss keeps (tables,
thresholds) is as it is before the first step on the bundled data.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssmrec import LOSSES, Interactions, Loss, prepare
from ssmrec.losses import Context
from ssmrec.negatives import Batch

FOLDER = Path(__file__).parent / "pictures"
NEGATIVES = 201
HARDEST = 0.05
REACH = {"cosine": 1.0, "dot": 4.0}
"""Similarities go from minus to plus this; the positive is half-way to the top."""
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 240, 104, 12, 8, 84
LINE, AXIS, POSITIVE, INK = "#1e88e5", "#888888", "#e0701a", "#7d7d7d"
"""Middle tones: an image cannot know whether the page around it is light or dark."""


@dataclass(frozen=True)
class Row:
    """What one row of a batch gives.

    Args:
        scores: float64 (N,), similarities of the negatives, ascending.
        weights: float64 (N,), derivative of the loss by each negative's logit.
        positive: similarity of the positive.
    """

    scores: Tensor
    weights: Tensor
    positive: float

    @property
    def hardest(self) -> float:
        """Share of the weight, 0 to 1, on the hardest twentieth of the negatives."""
        size = self.weights.abs()
        return float(size[-round(HARDEST * len(size)) :].sum() / size.sum())


def pictured() -> list[str]:
    """The losses that have negatives, in the order of the table."""
    return [name for name, loss in LOSSES.items() if not loss.on_vectors]


@cache
def pairs() -> Interactions:
    """The training pairs that losses are attached to."""
    return prepare("online-retail").train


def row(name: str) -> Row:
    """The weights of evenly spread negatives under a loss at its defaults."""
    loss = LOSSES[name](LOSSES[name].Config())
    loss.attach(pairs(), torch.Generator().manual_seed(0))
    loss.double()
    reach, temperature = REACH[loss.config.similarity], loss.config.temperature
    scores = torch.linspace(-reach, reach, NEGATIVES, dtype=torch.float64)
    logits = (scores / temperature)[None].requires_grad_()
    positive = torch.tensor([reach / 2 / temperature], dtype=torch.float64)
    value = loss(positive, logits, **_context(loss, positive))
    (weights,) = torch.autograd.grad(value.sum(), logits)
    return Row(scores, weights[0], reach / 2)


def _context(loss: Loss, positive: Tensor) -> dict[str, Any]:
    """The row's user has as many items as most; his other positives are as similar as this one."""
    if not loss.needs_context:
        return {}
    train = pairs()
    user = int(np.argsort(train.user_degrees, kind="stable")[train.n_users // 2])
    item = int(train.indices[train.indptr[user]])
    batch = Batch(torch.tensor([user]), torch.tensor([item]))
    more = loss.more_items(batch, np.random.default_rng(0))
    extra = None if more is None else positive[:, None].expand(more.shape)
    return {"context": Context(batch.users, batch.items, torch.arange(NEGATIVES), extra)}


def shape(found: Row) -> tuple[Tensor, float]:
    """Heights of the curve, (N,), 0 at the bottom of the picture and 1 at its top; height of zero."""
    size = found.weights / found.weights.abs().max()
    low = float(size.min().clamp_max(0))
    return (size - low) / (1 - low), -low / (1 - low)


def points(found: Row) -> list[tuple[float, float]]:
    """The curve in the picture: (x, y) of each negative, in pixels."""
    across = torch.linspace(LEFT, WIDTH - LEFT, len(found.scores), dtype=torch.float64)
    up = BOTTOM - shape(found)[0] * (BOTTOM - TOP)
    return [(round(x, 1), round(y, 1)) for x, y in zip(across.tolist(), up.tolist(), strict=True)]


def drawing(name: str, found: Row) -> str:
    """The picture as SVG."""
    curve, reach = points(found), found.positive * 2
    zero = round(BOTTOM - shape(found)[1] * (BOTTOM - TOP), 1)
    line = " ".join(f"{x:g},{y:g}" for x, y in curve)
    (first, _), (last, _) = curve[0], curve[-1]
    middle = (first + last) / 2
    at = (middle + last) / 2
    marks = (
        (first, "start", f"\N{MINUS SIGN}{reach:g}"),
        (middle, "middle", "0"),
        (last, "end", f"{reach:g}"),
    )
    labels = "\n".join(
        f'<text x="{x:g}" y="{BOTTOM + 14}" text-anchor="{anchor}">{text}</text>'
        for x, anchor, text in marks
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" \
viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" font-size="11" fill="{INK}">
<title>{name}: weight of a negative over its similarity</title>
<polygon points="{first:g},{zero:g} {line} {last:g},{zero:g}" fill="{LINE}" fill-opacity=".16"/>
<line x1="{at:g}" y1="{TOP}" x2="{at:g}" y2="{BOTTOM}" stroke="{POSITIVE}" stroke-width="1.5" \
stroke-dasharray="4 3"/>
<line x1="{first:g}" y1="{zero:g}" x2="{last:g}" y2="{zero:g}" stroke="{AXIS}"/>
<polyline points="{line}" fill="none" stroke="{LINE}" stroke-width="2" stroke-linejoin="round"/>
{labels}
</svg>
"""


def main() -> None:
    """Write all pictures; print what losses.md says of each."""
    FOLDER.mkdir(exist_ok=True)
    for name in pictured():
        found = row(name)
        (FOLDER / f"{name}.svg").write_text(drawing(name, found), encoding="utf-8")
        print(f"{name:<12} hardest {HARDEST:.0%}: {found.hardest:.0%} of the weight")


if __name__ == "__main__":
    main()
