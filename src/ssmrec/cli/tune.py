"""`ssmrec tune`: a search for the settings that are best on validation."""

from __future__ import annotations

import logging
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from ssmrec.cli.options import (
    LossOption,
    ModelOption,
    NegativesOption,
    RecipeOption,
    SeedOption,
    once,
    seconds,
)
from ssmrec.cli.train import print_run, run, tell_settings, tell_split, without_idle_validation
from ssmrec.config import merged, override, read_recipe
from ssmrec.data import prepare
from ssmrec.data.folder import source_name
from ssmrec.errors import ConfigError, RunError, SsmrecError
from ssmrec.storage.files import assert_inside
from ssmrec.training import RunConfig, label, load_run
from ssmrec.training.ahead import refuse_early
from ssmrec.training.run import holds, is_ours
from ssmrec.tuning import (
    PICTURE,
    RECIPE,
    Done,
    SearchBars,
    Task,
    best_of,
    counts,
    load_optuna,
    make_task,
    search,
    search_page,
)

logger = logging.getLogger("ssmrec")


def tune(
    data: Annotated[
        str | None,
        typer.Argument(
            help="A file, a folder, a pattern such as 'clicks/*.csv', or a name of `ssmrec data list`."
        ),
    ] = None,
    recipe: RecipeOption = None,
    model: ModelOption = None,
    loss: LossOption = None,
    negatives: NegativesOption = None,
    trials: Annotated[
        int, typer.Option(help="Trainings, those of earlier commands included.", min=1)
    ] = 20,
    timeout: Annotated[
        str | None, typer.Option(help="Time for this command, such as 90s, 30m or 2h; then stop.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a trial, at most.", min=1)] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="A setting to search: a range, LOW..HIGH or LOW..HIGH:log, or values; repeat.",
            metavar="KEY=RANGE",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A setting that stays as it is, as in train.lr=1e-3; repeat.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    pruner: Annotated[
        str, typer.Option(help="When a trial is given up early: median, hyperband or none.")
    ] = "median",
    seed: SeedOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the search; default: runs/tune-DATA-MODEL-LOSS."),
    ] = None,
    final: Annotated[
        bool,
        typer.Option(
            "--final", help="Then train the best settings and look at test: a run in OUT/final."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be searched.")
    ] = False,
) -> None:
    """Search for the settings that are best on validation pairs.

    A trial is one training; the first has the settings you start from. Test
    is never looked at, unless you ask for --final, once, after the search.

    OUT holds recipe.yaml (the best settings, for ssmrec train --recipe),
    trials.csv, search.html (a picture of the search) and study.db. The same
    command goes on where it was broken off, and with a larger --trials after
    its end.

    Every loss and backbone has a space of its own: --dry-run shows it,
    --space changes it, --set fixes a setting. Needs the extra `tune`.

    Examples:

      ssmrec tune online-retail --model lightgcn --loss ssm --trials 30

      ssmrec tune clicks.csv --model mf --loss bpr --timeout 30m --final

      ssmrec tune clicks.csv --space loss.temperature=0.05..0.5:log

      ssmrec tune clicks.csv --space model.dim=32,64,128 --epochs 30

      ssmrec tune clicks.csv --set train.lr=1e-3 --dry-run

      ssmrec tune clicks.csv --model ease --trials 15
    """
    values = _asked(
        recipe, set_ or [],
        data={"source": data}, model={"name": model}, loss={"name": loss},
        negatives={"name": negatives}, train={"epochs": epochs}, seed=seed,
    )  # fmt: skip
    task = make_task(
        values, once("--space", [_pair(text) for text in space or []]), _keys(set_ or []), pruner
    )
    config = task.asked()
    if dry_run:
        _show(task)
        return
    load_optuna()  # told before data are read
    stem = source_name(config.data.source)
    folder = out or Path("runs") / "-".join(["tune", stem, *label(config).split(" + ")])
    if held := holds(folder):
        raise RunError(f"{folder}: holds {held}; choose another --out for the search")
    tell_settings(config)
    found = _search(task, folder, trials, timeout)
    best = best_of(found)
    assert best is not None
    _tell(task, found, best, folder)
    if final:
        assert_inside(folder, folder / "final")
        _final(task.best(best.params, best.epoch), folder / "final")


def _asked(recipe: str | None, pairs: list[str], **options: Any) -> dict[str, Any]:
    """Settings: those of the recipe, then the flags, then `--set`."""
    start = {} if recipe is None else read_recipe(recipe)
    if recipe is None and options["data"]["source"] is None:
        raise ConfigError("nothing to tune on: name a file, a folder or a data set, or a --recipe")
    asked: dict[str, Any] = {}
    for section, value in options.items():
        if isinstance(value, dict):
            value = {key: each for key, each in value.items() if each is not None}
        if value or value == 0:
            asked[section] = value
    return override(merged(start, asked), pairs)


def _pair(text: str) -> tuple[str, str]:
    """`loss.temperature=0.1..0.2` as key and range."""
    key, found, value = text.partition("=")
    if not found or not key.strip() or not value.strip():
        raise ConfigError(f"--space {text}: must look like loss.temperature=0.05..0.5:log")
    return key.strip(), value.strip()


def _keys(pairs: list[str]) -> list[str]:
    return [pair.partition("=")[0].strip() for pair in pairs]


def _show(task: Task) -> None:
    """The space, a line a setting, with the value it starts from."""
    wide = max(map(len, task.space))
    for key, part in task.space.items():
        start = f"   starts with {task.start[key]}" if key in task.start else ""
        typer.echo(f"{key:<{wide}}  {part}{start}")


def _search(task: Task, folder: Path, trials: int, timeout: str | None) -> list[Done]:
    config = task.asked()
    refuse_early(task.trial())
    limit = None if timeout is None else _seconds(timeout)
    with SearchBars(task) as bars:
        logger.info("reading %s", config.data.source)
        split = prepare(config.data, config.seed)
        tell_split(split)
        try:
            return search(task, split, trials, folder, limit, bars)
        except KeyboardInterrupt:
            logger.warning(
                "interrupted: the trials that ended are kept in %s; the same command goes on",
                folder,
            )
            raise typer.Exit(130) from None


def _tell(task: Task, found: list[Done], best: Done, folder: Path) -> None:
    """What came of the search, and where it is."""
    at = f" in epoch {best.epoch}" if best.epoch else ""
    typer.echo(
        f"{counts(found)}; best validation {task.metric} {best.value:.4f}{at}, trial {best.number}"
    )
    if told := _start(task, found[0], best):
        typer.echo(f"the settings it started from: {told}")
    wide = max(map(len, task.space))
    for key in task.space:
        typer.echo(f"  {key:<{wide}}  {best.params[key]}")
    typer.echo(f"train them: ssmrec train --recipe {quote(str(folder / RECIPE))}")
    try:
        search_page(task, found, folder / PICTURE)
        typer.echo(f"picture:    {folder / PICTURE}")
    except RunError:
        raise
    except SsmrecError as error:  # the search is worth more than its picture
        logger.warning("no picture of the search: %s", error)


def _start(task: Task, first: Done, best: Done) -> str:
    """What came of the settings the search began with, where that is not told elsewhere."""
    if task.starts(first.params):
        return "" if first.value is None or first is best else f"{first.value:.4f}"
    if len(task.start) < len(task.space):  # the space lacks one of them
        return ""
    return "given up, as a trial with them was broken off three times"


def _final(config: RunConfig, folder: Path) -> None:
    """Train the best settings and look at test, unless that was done before."""
    if (folder / "metrics.json").exists():
        trained, _ = load_run(folder)
        same = trained.config == without_idle_validation(config)
        if same and trained.metrics["stopped"] != "interrupted":
            print_run(trained)
            return
    trained, _, _ = run(config, folder, resume=False, overwrite=is_ours(folder))
    print_run(trained)
    typer.echo(f"run folder: {folder}")


def _seconds(text: str) -> float:
    """`90s`, `30m`, `2h` or plain seconds, above 0."""
    like = "90s, 30m or 2h"
    found = seconds(text, "--timeout", like)
    if not found > 0:
        raise ConfigError(f"--timeout {text}: must look like {like}")
    return found
