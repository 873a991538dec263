"""`ssmrec train`: from data to a run folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ssmrec.config import merged, override, read_recipe
from ssmrec.data import Split, prepare
from ssmrec.data.named import locate
from ssmrec.errors import ConfigError, RunError
from ssmrec.reporting.progress import ProgressBars
from ssmrec.reporting.tables import caption, run_table
from ssmrec.training import Checkpoint, RunConfig, Trained, resolve, save_run, train_run

logger = logging.getLogger("ssmrec")


def train(
    data: Annotated[
        str | None,
        typer.Argument(
            help="A file, a folder with train.* and test.*, or a name of `ssmrec data list`."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Settings to start from: a name of `ssmrec recipes`, or a YAML file."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="mf, svdpp or lightgcn.")] = None,
    loss: Annotated[str | None, typer.Option(help="ssm, softmax, bpr or bce.")] = None,
    negatives: Annotated[
        str | None, typer.Option(help="in_batch, uniform, popularity or all; default: what fits.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Who chooses the epoch: valid, refit, fixed or published.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="File of the test part.")] = None,
    valid: Annotated[str | None, typer.Option(help="File of the validation part.")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training pairs, at most.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time to train, such as 10s, 5m or 2h; then stop.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides all randomness.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any setting, as in loss.temperature=0.14; repeat.", metavar="KEY=VALUE"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default: runs/DATA-MODEL-LOSS.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished run.")] = False,
) -> None:
    """Train a recommender and write a run folder.

    Examples:

      ssmrec train clicks.parquet --set data.user=customer --set data.item=product

      ssmrec train online-retail --model lightgcn --loss ssm --set loss.temperature=0.2

      ssmrec train --recipe yelp2018-lightgcn-ssm
    """
    if data is None and recipe is None:
        raise ConfigError("nothing to train on: name a file, a folder or a data set, or a --recipe")
    asked: dict[str, Any] = {"data": {}, "train": {}}
    for part, name in (("model", model), ("loss", loss), ("negatives", negatives)):
        if name is not None:
            asked[part] = {"name": name}
    for section, key, value in (
        ("data", "source", data), ("data", "test", test), ("data", "valid", valid),
        ("train", "protocol", protocol), ("train", "epochs", epochs),
        ("train", "budget", None if budget is None else _seconds(budget)),
    ):  # fmt: skip
        if value is not None:
            asked[section][key] = value
    if seed is not None:
        asked["seed"] = seed
    start = {} if recipe is None else read_recipe(recipe)
    config = resolve(override(merged(start, asked), set_ or []))
    trained, _, folder = run(config, out, resume, overwrite)
    print_run(trained)
    typer.echo(f"run folder: {folder}")
    if trained.metrics["stopped"] == "interrupted":
        raise typer.Exit(130)


def run(
    config: RunConfig, out: Path | None, resume: bool, overwrite: bool
) -> tuple[Trained, Split, Path]:
    """Train as `config` says into a folder; the run, the data it was measured on, the folder."""
    folder = out or Path("runs") / "-".join(
        [Path(config.data.source).stem, config.model["name"], config.loss["name"]]
    )
    left = (folder / "checkpoint.safetensors").exists()
    if (folder / "metrics.json").exists() and not overwrite and not (resume and left):
        raise RunError(f"{folder}: holds a finished run; choose another --out, or --overwrite")
    if resume and not left:
        logger.info("%s holds no checkpoint: training starts from the beginning", folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".write").touch()
        (folder / ".write").unlink()
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be written ({error.strerror}); choose another --out"
        ) from None
    config = _without_idle_validation(config)
    with ProgressBars() as bars:
        bars.note(f"reading {config.data.source}")
        split = prepare(config.data, config.seed)
        tell_split(split)
        checkpoint = Checkpoint(folder, split.fingerprint, config.model_dump(mode="json"), resume)
        trained = train_run(config, split, bars, checkpoint)
    save_run(folder, trained, split.fingerprint)
    if trained.metrics["stopped"] != "interrupted":
        checkpoint.remove()
    elif checkpoint.path.exists():
        logger.warning("interrupted: the best model so far is saved; add --resume to go on")
    else:
        logger.warning("interrupted in the first epoch; add --overwrite to begin again")
    return trained, split, folder


def _without_idle_validation(config: RunConfig) -> RunConfig:
    """No validation pairs are carved from train for a protocol that would put them back."""
    if config.train.protocol in ("valid", "refit") or "valid" in locate(config.data):
        return config
    whole = config.data.split.model_copy(update={"valid": 0.0})
    return config.model_copy(update={"data": config.data.model_copy(update={"split": whole})})


def tell_split(split: Split) -> None:
    """Log every count that is not zero, but for the sizes, which reading has told."""
    told = {"users", "items", "train", "valid", "test"}
    for name, count in split.counts.items():
        if count and name not in told and not name.endswith("rows_read"):
            logger.info("  %s: %s", name.replace("_", " "), f"{count:,}")


def print_run(trained: Trained) -> None:
    """The table of results."""
    config = trained.config
    label = f"{config.model['name']} + {config.loss['name']}"
    k = max(config.evaluation.ks)
    names = [f"{metric}@{k}" for metric in config.evaluation.metrics]
    console = Console()
    console.print(run_table(trained.metrics, label, names))
    console.print(caption(trained.metrics), markup=False, highlight=False)


def _seconds(text: str) -> float:
    """`10s`, `5m`, `2h` or plain seconds."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        return float(number) * units[unit]
    except ValueError:
        raise ConfigError(f"--budget {text}: must look like 10s, 5m or 2h") from None
