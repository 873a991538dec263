"""`ssmrec compare`: an experiment of many runs as one command that can be broken off."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ssmrec.cli.options import once
from ssmrec.cli.plugins import load_plugins
from ssmrec.compare import (
    FORMATS,
    Failure,
    Method,
    Plan,
    Store,
    aggregate,
    chosen,
    expand,
    make_plan,
    run_of,
    run_plan,
    trials,
    tuned_settings,
)
from ssmrec.compare.progress import CompareBars
from ssmrec.compare.store import TABLES
from ssmrec.config import choose, override, read_yaml
from ssmrec.errors import ConfigError, RunError
from ssmrec.training.run import write_text

logger = logging.getLogger("ssmrec")


def compare(
    plan: Annotated[
        Path | None, typer.Argument(help="YAML file that says what to compare.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Data sets or files.", metavar="A,B,...")] = None,
    models: Annotated[
        str | None, typer.Option(help="Backbones: mf, svdpp, lightgcn, ngcf ...", metavar="A,B,...")
    ] = None,
    losses: Annotated[
        str | None, typer.Option(help="Losses: ssm, softmax, bpr, bce ...", metavar="A,B,...")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds, from 0 on.")] = None,
    study: Annotated[
        list[str] | None,
        typer.Option(
            help="A setting to vary, as in loss.temperature=0.1,0.2; repeat for combinations.",
            metavar="KEY=A,B,...",
        ),
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(
            help="A grid from which validation takes the best for each method; repeat.",
            metavar="KEY=A,B,...",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any setting of all runs, as in train.epochs=20; repeat.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Method to hold the others against; default: the first.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What tunes and is tested; default: ndcg@20.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Paired test over users: randomisation or wilcoxon.")
    ] = None,
    cost: Annotated[bool, typer.Option("--cost", help="Add columns of training time.")] = False,
    groups: Annotated[
        bool, typer.Option("--groups", help="Add tables by popularity group of the items.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the comparison; default: compare/NAME.")
    ] = None,
    format: Annotated[str, typer.Option(help="text, md, latex or csv.")] = "text",
    only: Annotated[
        str, typer.Option(help="Regular expression: run only what matches it; see --dry-run.")
    ] = "",
    at_a_time: Annotated[
        int,
        typer.Option(
            min=1,
            help="Trainings that go on at the same time, each in a process of its own; they share the "
            "CPU's threads, and a GPU.",
        ),
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs and how far each is.")
    ] = False,
    no_run: Annotated[
        bool, typer.Option("--no-run", help="Only print the table of what is finished.")
    ] = False,
) -> None:
    """Train data sets x backbones x losses x seeds, and print one table.

    Finished runs are never repeated: after Ctrl-C or a crash the same command goes on. The table has
    mean and standard deviation over seeds, the change against a baseline, and paired significance
    over users with Holm's correction. It is also written to OUT/table.md and OUT/table.csv.

    Examples:

      ssmrec compare --data online-retail --models mf,lightgcn --losses ssm,bpr --seeds 3

      ssmrec compare --data online-retail --models lightgcn --losses ssm --study model.layers=1,2,3

      ssmrec compare experiments/table2.yaml --only gowalla --dry-run

      ssmrec compare experiments/table2.yaml --no-run --format latex
    """
    write = choose(FORMATS, format, "--format")
    asked = _asked(
        data=data, models=models, losses=losses, seeds=seeds, study=study, tune=tune,
        baseline=baseline, metric=metric, test=test, cost=cost or None,
        groups=groups or None,
    )  # fmt: skip
    agreed, name = _plan(plan, asked, set_ or [])
    folder = out or Path("compare") / name
    with _each_once():
        methods = expand(agreed)
        if dry_run:
            _list(agreed, methods, Store(folder), only)
            return
        failures = [] if no_run else _run(agreed, methods, folder, only, at_a_time)
        store = Store(folder)
        blocks = aggregate(agreed, methods, store)
    # A data set without any run yet would be a block of dashes.
    done = [block for block in blocks if any(row.seeds for row in block.rows)]
    if failures and not done:
        _tell(failures)
        raise typer.Exit(2)
    blocks = done or blocks
    # A table can be printed from a folder that cannot be written.
    with suppress(RunError) if no_run else nullcontext():
        store.save_tests()
    if not no_run:
        for form, name in TABLES.items():
            write_text(folder / name, FORMATS[form](agreed, blocks))
    typer.echo(write(agreed, blocks), nl=False)
    if failures:
        _tell(failures)
        raise typer.Exit(2)


def _asked(**options: Any) -> dict[str, Any]:
    """The flags as keys of a plan."""
    asked = {key: value for key, value in options.items() if value is not None}
    for side in ("data", "models", "losses"):
        if side in asked:
            asked[side] = [name.strip() for name in asked[side].split(",") if name.strip()]
    for key in ("study", "tune"):
        if key in asked:
            asked[key] = once(f"--{key}", [_grid(f"--{key}", pair) for pair in asked[key]])
    return asked


def _grid(option: str, pair: str) -> tuple[str, list[Any]]:
    """`loss.temperature=0.1,0.2` as key and values; values are read as YAML."""
    key, found, text = pair.partition("=")
    if not found or not key.strip() or not text.strip():
        raise ConfigError(f"{option} {pair}: must look like loss.temperature=0.1,0.2")
    read = override({}, [f"values=[{text}]"])["values"]
    if not isinstance(read, list):
        raise ConfigError(f"{option} {pair}: {text} is no list of values")
    return key.strip(), [override({}, [f"v={v}"])["v"] if isinstance(v, str) else v for v in read]


def _plan(path: Path | None, asked: Mapping[str, Any], pairs: list[str]) -> tuple[Plan, str]:
    if path is None and not {"data", "models", "losses"} <= asked.keys():
        raise ConfigError(
            "nothing to compare: name a plan, or give --data, --models and --losses; "
            "see ssmrec compare --help"
        )
    values = {**({} if path is None else read_yaml(path)), **asked}
    if "metric" in asked:
        shown = values.get("metrics") or Plan.model_fields["metrics"].default
        shown = [shown] if isinstance(shown, str) else shown
        values["metrics"] = list(dict.fromkeys([*shown, asked["metric"]]))
    if pairs:
        rules = values.get("rules") or []
        last = {"set": override({}, pairs)}
        values["rules"] = [*(rules if isinstance(rules, list) else [rules]), last]
    return make_plan(values), "quick" if path is None else path.stem


def _run(
    plan: Plan, methods: list[Method], folder: Path, only: str, at_a_time: int
) -> list[Failure]:
    wanted = chosen(plan, methods, only)
    try:
        with CompareBars(at_a_time=at_a_time) as bars:
            # Parts of one's own are told by the environment, which the processes inherit.
            start = partial(load_plugins, [])
            failures = run_plan(plan, methods, folder, bars, only, at_a_time, start)
    except KeyboardInterrupt:
        store = Store(folder)
        done = sum(_state(plan, method, seed, store) == "finished" for method, seed in wanted)
        logger.warning(
            "interrupted: %d of %d runs are finished and kept in %s; the same command goes on, "
            "--no-run prints the table so far", done, len(wanted), folder,
        )  # fmt: skip
        raise typer.Exit(130) from None
    return failures


def _list(plan: Plan, methods: list[Method], store: Store, only: str) -> None:
    """Each run with its state, trials before the runs that wait for them."""
    states, told = [], set()
    for method, seed in chosen(plan, methods, only):
        for job in trials(plan, method):
            if job.key not in told:
                told.add(job.key)
                states.append((store.state(job), job.title))
        states.append((_state(plan, method, seed, store), run_of(method, seed, {}).title))
    for state, title in states:
        typer.echo(f"{state:<11}  {title}")
    done = sum(state == "finished" for state, _ in states)
    typer.echo(f"{len(states)} runs, {done} finished; folder {store.out}")


def _state(plan: Plan, method: Method, seed: int, store: Store) -> str:
    tuned = tuned_settings(plan, method, store)
    return "missing" if tuned is None else store.state(run_of(method, seed, tuned))


def _tell(failures: list[Failure]) -> None:
    """Failures by reason: a missing data set fails many runs in the same way."""
    reasons: dict[str, list[str]] = {}
    for failure in failures:
        reasons.setdefault(failure.reason, []).append(failure.job.title)
    for reason, titles in reasons.items():
        more = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
        typer.echo(f"error: {titles[0]}{more}: {reason}", err=True)


@contextmanager
def _each_once() -> Iterator[None]:
    """Log no message twice: many runs of a comparison give the same advice."""
    seen: set[str] = set()

    def new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        fresh = text not in seen
        seen.add(text)
        return fresh

    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(new)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(new)
