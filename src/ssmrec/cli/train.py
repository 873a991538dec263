"""`ssmrec train`: from data to a run folder."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ssmrec.blending import train_best
from ssmrec.cli.options import (
    LossOption,
    ModelOption,
    NegativesOption,
    OverwriteOption,
    RecipeOption,
    ResumeOption,
    SeedOption,
    TrackOption,
    refuse_both,
    seconds,
)
from ssmrec.cli.rows import Query, fetched_rows, foreign_rows, forget_rows, query_of, rows_of
from ssmrec.config import merged, override, read_recipe
from ssmrec.data import Split, prepare
from ssmrec.data.folder import source_name
from ssmrec.data.named import files_of, locate
from ssmrec.errors import ConfigError, RunError
from ssmrec.reporting.listeners import Listeners
from ssmrec.reporting.progress import ProgressBars
from ssmrec.reporting.tables import caption, run_table
from ssmrec.reporting.trackers import trackers
from ssmrec.storage.files import CHECKPOINT, ready
from ssmrec.storage.held import held
from ssmrec.training import (
    Checkpoint,
    DivergedError,
    Listener,
    RunConfig,
    Trained,
    differing,
    label,
    resolve,
    save_run,
    unused,
)
from ssmrec.training.ahead import refuse_early
from ssmrec.training.config import closed_form
from ssmrec.training.peers import current
from ssmrec.training.room import model_bytes
from ssmrec.training.run import broken_off, give_rows, holds, refuse_foreign

logger = logging.getLogger("ssmrec")


def train(
    data: Annotated[
        str | None,
        typer.Argument(
            help="A file, a folder of files or with train.* and test.*, a pattern such as "
            "'clicks/*.csv', the same in an object store, such as s3://shop/clicks/, a name of "
            "`ssmrec data list`, or a database, such as postgresql://host/shop, with --query."
        ),
    ] = None,
    query: Annotated[
        str | None, typer.Option(help="SQL of a database's rows, kept in OUT/data.parquet.")
    ] = None,
    recipe: RecipeOption = None,
    model: ModelOption = None,
    loss: LossOption = None,
    negatives: NegativesOption = None,
    protocol: Annotated[
        str | None, typer.Option(help="Who chooses the epoch: valid, refit, fixed or published.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="File of the test part.")] = None,
    valid: Annotated[str | None, typer.Option(help="File of the validation part.")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training pairs, at most.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time to train, such as 10s, 5m or 2h, reading and evaluating not counted. With no "
            "model, loss or sampler named: the best blend of popular, ease, svd and lightgcn."
        ),
    ] = None,
    seed: SeedOption = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any setting, as in loss.temperature=0.14; repeat.", metavar="KEY=VALUE"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default: runs/DATA-MODEL-LOSS.")
    ] = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    track: TrackOption = None,
) -> None:
    """Train a recommender and write a run folder.

    Examples:

      ssmrec train clicks.parquet --set data.user=customer --set data.item=product

      ssmrec train online-retail --model lightgcn --loss ssm --set loss.temperature=0.2

      ssmrec train --recipe yelp2018-lightgcn-ssm

      ssmrec train sqlite:///shop.db --query "select user_id, item_id, ts from clicks" --out runs/shop
    """
    rows = query_of(data, query, out, "data.parquet")
    if data is None and recipe is None:
        raise ConfigError("nothing to train on: name a file, a folder or a data set, or a --recipe")
    source = data if rows is None else str(rows.file)
    asked: dict[str, Any] = {"data": {}, "train": {}}
    for part, name in (("model", model), ("loss", loss), ("negatives", negatives)):
        if name is not None:
            asked[part] = {"name": name}
    for section, key, value in (
        ("data", "source", source), ("data", "test", test), ("data", "valid", valid),
        ("train", "protocol", protocol), ("train", "epochs", epochs),
        ("train", "budget", None if budget is None else seconds(budget)),
    ):  # fmt: skip
        if value is not None:
            asked[section][key] = value
    if seed is not None:
        asked["seed"] = seed
    start = {} if recipe is None else read_recipe(recipe)
    config = resolve(override(merged(start, asked), set_ or []))
    if rows is not None and config.data.source != source:
        raise ConfigError("data.source: leave --set data.source out with --query")
    refuse_both(resume, overwrite)
    trained, _, folder = run(config, out, resume, overwrite, track or (), rows)
    print_run(trained)
    typer.echo(f"run folder: {folder}")
    if trained.metrics["stopped"] == "interrupted":
        raise typer.Exit(130)


def run(
    config: RunConfig,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    track: Sequence[str] = (),
    query: Query | None = None,
) -> tuple[Trained, Split, Path]:
    """Train as `config` says into a folder; the run, the data it was measured on, the folder."""
    parts = [source_name(config.data.source), *label(config).split(" + ")]
    folder = out or Path("runs") / "-".join(parts)
    (peers := current()).admit(config)
    refuse_early(config)
    if query is None:  # else the rows are fetched later
        files_of(config.data)
    resume = resume or (peers.restarted and (folder / CHECKPOINT).exists())
    following = trackers(track, folder, resume) if peers.rank == 0 else []
    if peers.rank == 0:
        claim(folder, resume, overwrite, query)
    peers.meet()
    tell_settings(config)
    config = without_idle_validation(config)
    alone = held(folder) if peers.rank == 0 else nullcontext()
    with alone, rows_of(query, folder, resume) as file:
        with Listeners([ProgressBars(), *following]) as ears:
            source = config.data.source if file is None else str(file)
            logger.info("reading %s", source)
            asked = config.data.model_copy(update={"source": source})
            split = peers.prepared(lambda: prepare(asked, config.seed))
            tell_split(split)
            tell_room(folder, config, split)
            settings = config.model_dump(mode="json")
            checkpoint = Checkpoint(folder, split.fingerprint, settings, resume)
            peers.same(data=split.fingerprint, settings=settings, checkpoint=checkpoint.phases)
            ears.begin(config)
            trained = best_kept(
                lambda ear: train_best(config, split, ear, checkpoint),
                ears, folder, split, checkpoint,
            )  # fmt: skip
            ears.finish(trained.metrics)
        keep(trained, folder, split, checkpoint)
    return trained, split, folder


def claim(folder: Path, resume: bool, overwrite: bool, query: Query | None = None) -> None:
    """Make `folder` where it is missing, if a run may be written there.

    Raises:
        RunError: it holds a run that is neither to go on nor to be replaced, or files of others in the
            places of its files or of the rows of `query`, or cannot be written.
    """
    left = (folder / CHECKPOINT).exists()
    if (held := holds(folder)) and not overwrite and not (resume and (left or broken_off(folder))):
        goes_on = "--resume to go on" if left else "choose another --out"
        raise RunError(f"{folder}: holds {held}; {goes_on}, or --overwrite")
    if not overwrite:
        refuse_foreign(folder, "choose another --out, or --overwrite", *foreign_rows(query))
    if resume and not left:
        logger.warning("%s holds no checkpoint: training starts from the beginning", folder)
    ready(folder)


def best_kept(
    train: Callable[[Listener | None], Trained],
    listener: Listener,
    folder: Path,
    split: Split,
    checkpoint: Checkpoint,
) -> Trained:
    """What `train` gives; the best model of a training that diverges, if there is one, is saved.

    Raises:
        RunError: the training diverged.
    """
    try:
        return train(listener)
    except DivergedError as error:
        if not error.best_epoch:
            raise
        trained = train(None)
        keep(trained, folder, split, checkpoint)
        current().meet()
        raise RunError(
            f"{error}; the best model until then, of epoch {error.best_epoch}, is in {folder}"
        ) from None


def keep(trained: Trained, folder: Path, split: Split, checkpoint: Checkpoint) -> None:
    """Save a training that ended, or was interrupted after an epoch at least."""
    stopped, epochs = trained.metrics["stopped"], trained.metrics["epochs"]
    started = epochs or closed_form(trained.config)
    if stopped == "interrupted" and not started:  # the model is still its start
        left = checkpoint.path.exists()
        logger.warning(
            "interrupted before the first epoch had ended: nothing is written to %s; %s", folder,
            "add --resume to go on" if left else "start again",
        )  # fmt: skip
        raise typer.Exit(130)
    if current().rank:
        give_rows(trained.model)
        return
    save_run(folder, trained, split.fingerprint, fetched_rows(folder))
    forget_rows(folder)
    if stopped != "interrupted":
        checkpoint.remove()
    else:
        logger.warning(
            "interrupted: the best model so far is saved; %s",
            "add --resume to go on" if checkpoint.path.exists() else "--overwrite begins again",
        )


def tell_room(folder: Path, config: RunConfig, split: Split) -> None:
    """Warn before training starts when the disk has no room for the model."""
    train = split.train
    needed = model_bytes(config, train.n_users, train.n_items) + 4 * len(train)
    free = shutil.disk_usage(folder).free
    if free < needed:
        logger.warning(
            "%s: the model takes about %.1f MB and the disk has %.1f MB left; make room, or choose "
            "another --out", folder, needed / 1e6, free / 1e6,
        )  # fmt: skip


def tell_settings(config: RunConfig, idle: Mapping[str, list[str]] | None = None) -> None:
    """Log what is not a default, and what nothing has a use for (`idle`, None: `unused`), by the reason."""
    own = differing(config)
    if own.pop("train.choose_model", False):  # the parts shown are what is there before the choice
        own = {k: v for k, v in own.items() if not k.startswith(("model.", "loss.", "negatives."))}
    if own.pop("model.parts", ()):
        own["model.name"] = label(config)
    told = " ".join(f"{key}={value}" for key, value in own.items())
    logger.info("settings: %s; all others are defaults (ssmrec settings)", told)
    if idle is None:
        weights = ("data.weight", "data.event_weights", "data.duplicates")
        kept = [k for k in weights if own.get(k, "last") != "last"]
        alike = "every pair counts alike in training (train.weight_power=0), weights are only kept"
        idle = unused(config) | ({alike: kept} if kept and not config.train.weight_power else {})
    for reason, keys in idle.items():
        logger.warning("%s, so without effect: %s", reason, ", ".join(keys))


def without_idle_validation(config: RunConfig) -> RunConfig:
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
    k = max(config.evaluation.ks)
    names = [f"{metric}@{k}" for metric in config.evaluation.metrics]
    console = Console()
    if trained.metrics.get("test") or trained.metrics.get("valid"):
        console.print(run_table(trained.metrics, label(config), names))
    else:
        console.print("no pairs are held out: nothing is measured")
    console.print(caption(trained.metrics), markup=False, highlight=False)
