"""On a GPU: a training step, softmax over all items, ranking, and whole epochs at each precision.

Plain torch runs on the same GPU with its data resident there. Times are taken between synchronisations
of the device, A B A B. The small setting runs on whatever there is, so that the code stays alive.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness import Settings, interleaved, published
from benchmarks.step import BATCH, CASES, prepared
from ssmrec.data import Interactions
from ssmrec.errors import ConfigError
from ssmrec.evaluation import evaluate
from ssmrec.kernels.softmax import shared_softmax
from ssmrec.negatives import Batch
from ssmrec.ranking import top_k
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.training import Trainer, resolve
from ssmrec.training.device import Precision, Products
from ssmrec.training.seeds import numpy_generator

PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bf16")
Table = dict[str, Any]


def run(settings: Settings) -> dict[str, Any]:
    """Tables, ready to print.

    Raises:
        ConfigError: the full setting without a CUDA device.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not settings.small:
        raise ConfigError("the gpu benchmark needs a CUDA device: none can be used here")
    source = "online-retail" if settings.small else "yelp2018"
    train, test = published(source)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "device": name,
        "torch": torch.__version__,
        "data": source,
        "tables": [
            steps(train, device, settings),
            softmax(device, settings),
            ranking(train, device, settings),
            epochs(train, test, device, settings),
        ],
    }


def steps(train: Interactions, device: torch.device, settings: Settings) -> Table:
    """Milliseconds of one step: chunks of steps between two synchronisations."""
    batch, chunk, repeats = (256, 2, 2) if settings.small else (BATCH, 20, 5)
    rows = []
    for name in CASES:
        count = (repeats + 2) * chunk
        trainer, plain, batches = prepared(
            name, train, settings.seed, count, batch, device=device.type
        )
        draws = numpy_generator(settings.seed, "negatives", 1)
        resident = [tuple(side.to(device) for side in pair) for pair in batches]

        def ours(number: int, trainer: Any = trainer, batches: Any = batches, draws: Any = draws):  # type: ignore[no-untyped-def]
            for pair in batches[number * chunk : (number + 1) * chunk]:
                trainer.step(Batch(*pair), draws)
            synchronise(device)

        def theirs(side: Any, resident: Any = resident) -> Callable[[int], None]:
            def call(number: int) -> None:
                for pair in resident[number * chunk : (number + 1) * chunk]:
                    side.step(*pair)
                synchronise(device)

            return call

        sides = {"ours": ours} | {side: theirs(step) for side, step in plain.items()}
        seconds = interleaved(sides, repeats)
        took = {side: 1e3 * median(values) / chunk for side, values in seconds.items()}
        apart = (trainer.model.table - plain["torch"].table).norm() / trainer.model.table.norm()  # type: ignore[operator]
        rows.append([
            name, f"{took['ours']:.3f}", f"{took['torch']:.3f}",
            f"{took['torch'] / took['ours']:.1f}",
            f"{took['torch_autograd'] / took['ours']:.1f}" if "torch_autograd" in took else "-",
            f"{apart.item():.1e}",
        ])  # fmt: skip
    return {
        "title": "One training step",
        "note": f"B {batch}, d 64, in-batch sampled softmax, float32. Plain torch keeps the transposed "
        "matrix; the last ratio is against plain autograd, which transposes at every step. Ours "
        "includes the batch's way from main memory.",
        "columns": [
            "model",
            "ours ms",
            "torch ms",
            "times faster",
            "than autograd",
            "tables apart",
        ],
        "rows": rows,
    }


def softmax(device: torch.device, settings: Settings) -> Table:
    """Forward and backward of the softmax over all items, with and without stored logits."""
    items, batch = (2_000, 64) if settings.small else (1_000_000, 2048)
    generator = torch.Generator().manual_seed(settings.seed)
    users = F.normalize(torch.randn(batch, 64, generator=generator)) / 0.1
    table = F.normalize(torch.randn(items, 64, generator=generator))
    targets = torch.randint(items, (batch,), generator=generator).to(device)
    leaves = [x.to(device).requires_grad_() for x in (users, table)]
    masked = torch.stack([torch.arange(batch, device=device), targets])

    def ours() -> Tensor:
        return shared_softmax(leaves[0], leaves[1][targets], leaves[1], None, masked, False).mean()

    def plain() -> Tensor:
        return F.cross_entropy((leaves[0] @ leaves[1].T).float(), targets)

    exact = _gradients(plain, leaves) if settings.small or batch * items <= 2**31 else None
    rows = []
    for precision in PRECISIONS if device.type == "cuda" else PRECISIONS[:1]:
        products = Products(precision, device)
        found: dict[str, tuple[float, float, list[Tensor]]] = {}
        for side, loss in (("ours", ours), ("torch", plain)):
            found[side] = _measured(loss, products, leaves, 2 if settings.small else 7)
        errors = [
            "-" if exact is None else f"{_apart(found[side][2], exact):.1e}" for side in found
        ]
        rows.append([
            precision, f"{1e3 * found['ours'][0]:.1f}", f"{1e3 * found['torch'][0]:.1f}",
            f"{found['torch'][0] / found['ours'][0]:.1f}",
            f"{found['ours'][1]:.3f}", f"{found['torch'][1]:.1f}", *errors,
        ])  # fmt: skip
    return {
        "title": "Softmax over all items",
        "note": f"{items:,} items, B {batch}, d 64, forward and backward. Extra memory is the peak "
        "above the tables, gradients included. Errors are of the gradients, against torch's in float32.",
        "columns": ["precision", "ours ms", "torch ms", "times faster", "ours GiB", "torch GiB",
                    "ours error", "torch error"],
        "rows": rows,
    }  # fmt: skip


def _gradients(loss: Callable[[], Tensor], leaves: list[Tensor]) -> list[Tensor]:
    return [gradient.detach() for gradient in torch.autograd.grad(loss(), leaves)]


def _apart(found: list[Tensor], exact: list[Tensor]) -> float:
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(found, exact, strict=True))


def _measured(
    loss: Callable[[], Tensor], products: Products, leaves: list[Tensor], repeats: int
) -> tuple[float, float, list[Tensor]]:
    """Median seconds, peak GiB above what was held before, and the gradients."""
    device = leaves[0].device

    def once() -> list[Tensor]:
        with products.step():
            with products.forward():
                value = loss()
            return _gradients(lambda: value, leaves)

    once()
    before = 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    gradients = once()
    peak = (torch.cuda.max_memory_allocated() - before) / 2**30 if device.type == "cuda" else 0.0
    return median(timed(once, device) for _ in range(repeats)), peak, gradients


def ranking(train: Interactions, device: torch.device, settings: Settings) -> Table:
    """Top-20 of every user with the seen items left out, against the bare product and torch.topk."""
    generator = torch.Generator().manual_seed(settings.seed)
    users = torch.randn(train.n_users, 64, generator=generator).to(device)
    items = torch.randn(train.n_items, 64, generator=generator).to(device)

    def bare() -> None:
        for part in users.split(4096):
            ids = (part @ items.T).topk(20).indices
        ids.cpu()

    sides = {"ours": lambda _: top_k(users, items, 20, seen=[train]), "bare": lambda _: bare()}
    seconds = interleaved(sides, 2 if settings.small else 5)
    rate = {side: train.n_users / median(values) for side, values in seconds.items()}
    return {
        "title": "Ranking all users",
        "note": f"{train.n_users:,} users, {train.n_items:,} items, top 20. The limit is the bare "
        "product and torch.topk, without leaving out what was seen and without lists in main memory.",
        "columns": ["ours users/s", "limit users/s", "limit / ours"],
        "rows": [[
            f"{rate['ours']:,.0f}", f"{rate['bare']:,.0f}", f"{rate['bare'] / rate['ours']:.2f}"
        ]],
    }  # fmt: skip


def epochs(
    train: Interactions, test: Interactions, device: torch.device, settings: Settings
) -> Table:
    """Seconds of an epoch, and quality on test after some, at each precision and on the CPU."""
    count = 1 if settings.small else 3
    cases = [("lightgcn", device.type, precision, count) for precision in PRECISIONS]
    cases = cases if device.type == "cuda" else cases[:1]
    if device.type == "cuda":
        cases += [("mf", "cuda", "float32", count), ("lightgcn", "cpu", "float32", 1)]
    rows = []
    for model, place, precision, passes in cases:
        config = resolve({
            "model": {"name": model}, "loss": {"name": "ssm"},
            "train": {"protocol": "fixed", "device": place, "precision": precision},
            "seed": settings.seed,
        })  # fmt: skip
        trainer = Trainer(config, train, epochs=passes)
        history = trainer.run().history
        vectors = ranking_vectors(trainer.model, config.ranking.similarity)  # type: ignore[arg-type]
        result = evaluate(
            *vectors, test, [train], ["recall@20", "ndcg@20"], allowed=train.item_degrees > 0
        )
        rows.append([
            model, place, precision, passes, f"{history[0]['train_seconds']:.2f}",
            f"{np.median([record['train_seconds'] for record in history]):.2f}",
            f"{result.values['recall@20']:.4f}", f"{result.values['ndcg@20']:.4f}",
            f"{result.seconds:.2f}",
        ])  # fmt: skip
    return {
        "title": "Epochs",
        "note": f"{len(train):,} pairs, default settings, one seed; the first epoch compiles. Quality is "
        "that on test after so many epochs, which were chosen beforehand.",
        "columns": ["model", "device", "precision", "epochs", "first s", "epoch s", "Recall@20",
                    "NDCG@20", "ranking s"],
        "rows": rows,
    }  # fmt: skip


def timed(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds of a call whose work is done when it ends."""
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    """Wait for what is queued on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
