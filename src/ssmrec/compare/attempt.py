"""One job of a plan: trained, measured, kept."""

from __future__ import annotations

from dataclasses import dataclass

from ssmrec.compare.measure import head, measured
from ssmrec.compare.methods import Job, trials
from ssmrec.compare.plan import Plan
from ssmrec.compare.store import Outcome, Store
from ssmrec.data import Split, prepare
from ssmrec.errors import ConfigError, RunError, SsmrecError, memory_ran_out
from ssmrec.storage.files import assert_inside
from ssmrec.storage.held import held
from ssmrec.training import (
    Checkpoint,
    DivergedError,
    Listener,
    Trained,
    load_run,
    save_run,
    train_run,
)
from ssmrec.training.ahead import refuse_early


@dataclass(frozen=True)
class Attempt:
    """What came of a job.

    Args:
        outcome: what is kept of it; None where nothing is, and the job is to be tried again.
        reason: why it failed; empty when it did not. A trial that diverged has an outcome as well.
    """

    outcome: Outcome | None
    reason: str = ""


class Attempts:
    """Does jobs, one after the other.

    Args:
        plan: the plan.
        store: where results are kept.
        listener: hears of the training.
        at_a_time: how many trainings share the machine, which results tell beside their seconds.
    """

    def __init__(self, plan: Plan, store: Store, listener: Listener, at_a_time: int = 1) -> None:
        self.plan, self.store, self.listener, self.at_a_time = plan, store, listener, at_a_time
        self.split: tuple[str, Split | SsmrecError] | None = None

    def __call__(self, job: Job) -> Attempt:
        """Train and measure a job, and keep the result.

        Raises:
            RunError: `out` cannot be written.
            KeyboardInterrupt: as a training was interrupted; its checkpoint is kept.
        """
        reason = ""
        try:
            trained, fingerprint, split = self._trained(job)
            outcome = measured(self.plan, job, trained, fingerprint, split, self.at_a_time)
        except (SsmrecError, RuntimeError, MemoryError) as error:
            if not (isinstance(error, SsmrecError) or memory_ran_out(error)):
                raise
            reason = str(error) or "out of memory"
            if job.trial is None or not isinstance(error, DivergedError):
                return Attempt(None, reason)
            # A trial that diverged is a trial that lost: the others decide.
            outcome = Outcome({**head(job), "metrics": {}, "failed": reason})
        self.store.save(job, outcome)
        return Attempt(outcome, reason)

    def _trained(self, job: Job) -> tuple[Trained, str, Split]:
        folder = self.store.folder(job)
        if not (folder / "metrics.json").exists():
            refuse_early(job.config)
        split = self._data(job)
        if (folder / "metrics.json").exists():
            trained, fingerprint = load_run(folder)
            then = trained.config.model_dump(mode="json")
            if same := fingerprint == split.fingerprint:
                then["data"]["split"].pop("ties")  # of an older run it is not what was asked for
            differs = job.difference(then)
            if not (same or differs):
                differs = f"other data than {job.config.data.source} holds now"
            if differs:
                raise RunError(
                    f"{folder}: was trained with {differs}; delete it, or compare into another folder"
                )
            return trained, fingerprint, split
        assert_inside(self.store.out, folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = job.config.model_dump(mode="json")
        with held(folder):
            checkpoint = Checkpoint(folder, split.fingerprint, settings, resume=True)
            selected = self._selected(job)
            trained = train_run(job.config, split, self.listener, checkpoint, selected)
            if trained.metrics["stopped"] == "interrupted":
                raise KeyboardInterrupt
            save_run(folder, trained, split.fingerprint)
            checkpoint.remove()
        return trained, split.fingerprint, split

    def _selected(self, job: Job) -> Trained | None:
        """The trial that was the training `job` begins with, where its run folder is still there."""
        if job.trial is not None or job.config.train.protocol not in ("valid", "refit"):
            return None
        train = job.config.train.model_copy(update={"protocol": "valid"})
        same = job.config.model_copy(update={"train": train})
        for trial in trials(self.plan, job.method):
            folder = self.store.folder(trial)
            if trial.config == same and (folder / "metrics.json").exists():
                trained, fingerprint = load_run(folder)
                return trained if fingerprint == self._data(trial).fingerprint else None
        return None

    def _data(self, job: Job) -> Split:
        """The split of a job, the last one kept; a trial gets no test pairs."""
        name = job.config.data.model_dump_json() + str(job.config.seed)
        if self.split is None or self.split[0] != name:
            try:
                self.split = name, prepare(job.config.data, job.config.seed)
            except SsmrecError as error:
                self.split = name, error
        split = self.split[1]
        if isinstance(split, SsmrecError):
            raise split
        if job.trial is not None:
            return Split(split.train, split.valid, None, split.strategy, split.counts)
        if split.test is None:
            raise ConfigError(f"{job.config.data.source} has no test pairs to compare on")
        return split
