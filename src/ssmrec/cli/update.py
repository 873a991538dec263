"""`ssmrec update`: train on from a run, with new users, items and pairs."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from ssmrec.cli.options import OverwriteOption, ResumeOption, TrackOption, refuse_both
from ssmrec.cli.rows import query_of, rows_of
from ssmrec.cli.train import (
    best_kept,
    claim,
    keep,
    print_run,
    seconds,
    tell_room,
    tell_settings,
    tell_split,
)
from ssmrec.config import merged, override
from ssmrec.data import DataConfig, Interactions, load
from ssmrec.data.named import Files, files_of
from ssmrec.data.prepare import idle
from ssmrec.errors import ConfigError
from ssmrec.models import Blend
from ssmrec.reporting.listeners import Listeners
from ssmrec.reporting.progress import ProgressBars
from ssmrec.reporting.trackers import trackers
from ssmrec.storage.held import held
from ssmrec.training import RunConfig, Trained, load_run, unused
from ssmrec.training.ahead import NO_TEST, no_validation, refuse_parts
from ssmrec.training.config import closed_form, completed, reopened
from ssmrec.training.given import flat
from ssmrec.training.pairs import mismatches
from ssmrec.updating.grown import Grown, grown
from ssmrec.updating.update import fewer_epochs, refuse_changes, single, update_run
from ssmrec.updating.warm import WarmStart

logger = logging.getLogger("ssmrec")


def update(
    run: Annotated[Path, typer.Argument(help="Run folder to begin from.")],
    new_data: Annotated[
        str,
        typer.Argument(
            help="New pairs: a file, a folder or a data set, read with the settings of the run; or a "
            "database with --query.",
        ),
    ],
    query: Annotated[
        str | None, typer.Option(help="SQL of a database's new rows, kept in OUT/update.parquet.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the new run; default: RUN-updated.")
    ] = None,
    replace_data: Annotated[
        bool,
        typer.Option(
            "--replace-data", help="NEW_DATA is everything: pairs it lacks are forgotten."
        ),
    ] = False,
    test: Annotated[
        str | None, typer.Option(help="Pairs to measure on, once, at the end; none by default.")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over all pairs; default: a quarter of those of the run."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time to train, such as 10s, 5m or 2h; then stop.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting but the model's; repeat.", metavar="KEY=VALUE"),
    ] = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    track: TrackOption = None,
) -> None:
    """Train on from a run, with new users, items and pairs: a warm start.

    Examples:

      ssmrec update runs/shop new.parquet --out runs/shop-2

      ssmrec update runs/shop all.parquet --replace-data --out runs/shop-2

      ssmrec update runs/shop yesterday.parquet --out runs/shop --overwrite --budget 5m
    """
    refuse_both(resume, overwrite)
    old, fingerprint = load_run(run)
    asked = _asked(epochs, budget, set_ or [])
    config = _settings(old, asked)
    folder = out or _beside(run)
    following = trackers(track or (), folder, resume)
    rows = query_of(new_data, query, folder, "update.parquet")
    source = new_data if rows is None else str(rows.file)
    for model in single(old):
        refuse_parts(model.config if isinstance(old.model, Blend) else config)
    files = _refuse_early(config, source if rows is None else None, test)
    claim(folder, resume, overwrite, rows)
    tell_settings(config, _idle(config, flat(asked), files))
    with held(folder), rows_of(rows, folder, resume) as file:
        with Listeners([ProgressBars(), *following]) as ears:
            data = grown(
                old, _read(source if file is None else str(file), config.data), config, replace_data,
                None if test is None else _read(test, config.data),
            )  # fmt: skip
            tell_split(data.split)
            _tell(data, config)
            tell_room(folder, config, data.split)
            settings = config.model_dump(mode="json")
            key = f"{data.split.fingerprint} after {fingerprint}"
            checkpoint = WarmStart(old, folder, key, settings, resume)
            ears.begin(config)
            begun: dict[str, Any] = {
                "run": str(run),
                "data_fingerprint": fingerprint,
                "new_data": source,
            }
            if earlier := _earlier(old, replace_data):
                begun["before"] = earlier
            trained = best_kept(
                lambda ear: update_run(old, data, config, begun, ear, checkpoint),
                ears, folder, data.split, checkpoint,
            )  # fmt: skip
            ears.finish(trained.metrics)
        keep(trained, folder, data.split, checkpoint)
    if trained.metrics["test"] or trained.metrics["valid"]:
        print_run(trained)
    typer.echo(f"run folder: {folder}")
    if trained.metrics["stopped"] == "interrupted":
        raise typer.Exit(130)


def _earlier(old: Trained, forgotten: bool) -> list[str]:
    """The data of the updates before this one, the first one first; titles may lie with them."""
    told = {} if forgotten else old.metrics.get("update", {})
    return [*told.get("before", ()), *([told["new_data"]] if "new_data" in told else [])]


def _beside(run: Path) -> Path:
    """RUN-updated, also where RUN is `.` or ends with `..`."""
    named = run if run.name not in ("", "..") else run.resolve()
    return named.with_name(f"{named.name}-updated")


def _asked(epochs: int | None, budget: str | None, pairs: list[str]) -> dict[str, Any]:
    """The settings that the command names."""
    train: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    if budget is not None:
        train["budget"] = seconds(budget)
    return override({"train": train}, pairs)


def _settings(old: Trained, asked: dict[str, Any]) -> RunConfig:
    """The settings of the run, with fewer epochs and what is asked for."""
    loss = flat(asked).get("loss.name", old.config.loss["name"])
    begun = reopened(old.config, loss)
    values = merged(begun, {"train": {"epochs": fewer_epochs(old)}}, asked)
    config = completed(values)
    for warning in mismatches(config):
        if warning not in mismatches(old.config):
            logger.warning(warning)
    if flat(asked).get("data.split.valid") == 0 and config.train.protocol in ("valid", "refit"):
        raise ConfigError(no_validation(config.train.protocol))
    refuse_changes(old.config, config)
    for key in ("source", "test", "valid"):
        if getattr(config.data, key) != getattr(old.config.data, key):
            raise ConfigError(
                f"data.{key}: the new pairs are NEW_DATA, those to measure on --test; leave --set "
                f"data.{key} out"
            )
    return config


def _idle(config: RunConfig, asked: Collection[str], files: Files) -> dict[str, list[str]]:
    """Settings asked for that this update has no use for, by the reason; those of the run were told then."""
    split = {key for key in asked if key.startswith("data.split.") and key != "data.split.valid"}
    found = {"an update splits no test part off": sorted(split)}
    for reason, keys in (unused(config) | idle(config.data, files, given=False)).items():
        found[reason] = [key for key in keys if key in asked and key not in split]
    return {reason: keys for reason, keys in found.items() if keys}


def _refuse_early(config: RunConfig, source: str | None, test: str | None) -> Files:
    """Refuse what is known to fail from settings, machine and names of files, before anything is read.

    Returns:
        The files of `source`; none for a database.
    """
    if config.train.protocol == "published" and test is None:
        raise ConfigError(f"{NO_TEST}: name it with --test, or set train.protocol=fixed")
    if test is not None:
        files_of(_rows_of(test, config.data))
    return {} if source is None else files_of(_rows_of(source, config.data))


def _rows_of(source: str, config: DataConfig) -> DataConfig:
    """All rows of a source, read as those of the run were; rare users and items stay for now."""
    changes = {"source": source, "test": None, "valid": None, "min_user": 0, "min_item": 0}
    return config.model_copy(update=changes)


def _read(source: str, config: DataConfig) -> Interactions:
    logger.info("reading %s", source)
    return load(source, _rows_of(source, config))


def _tell(data: Grown, config: RunConfig) -> None:
    """Log what is known, new and gone, and how the training begins."""
    for side, names in (
        ("users", ("known", "new", "gone")),
        ("items", ("known", "new", "gone")),
        ("pairs", ("known", "new", "duplicate", "gone", "weighed_anew")),
    ):
        counts = {name: data.counts.get(f"{side}_{name}") for name in names}
        told = ", ".join(
            f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items() if n is not None
        )
        logger.info("  %s: %s", side, told)
    if config.model["name"] == "blend":
        logger.info("its models are updated one after the other, their weights stay")
    elif closed_form(config):
        logger.info(
            "%s is solved again from all pairs: there is no warm start", config.model["name"]
        )
    else:
        logger.info("at most %d epochs from a warm start", config.train.epochs)
