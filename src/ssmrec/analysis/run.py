"""Every analysis of one run, as one plain dictionary that is also `analysis.json`.

All values are JSON: numbers, texts, lists, dictionaries, None where a value does not exist (the reason is
then among `notes`). Lists over groups go from the tail (group 1) to the head. Shares are 0 to 1.

    format      1
    run         label, folder, model, loss, negatives (settings), temperature, similarity {train, rank},
                protocol, warning (None, or what must stand beside every figure), epochs, seed, data, users,
                items, train_pairs, other_data (None: the held-out pairs are of the run's own data; else
                {source, pairs, unknown, known}: where they come from, how many there are, and how many are
                left out, as the run does not know their ids or knows the pair)
    settings    on (test or valid), k, groups, rows (of the batch), pairs, nodes, seed: how it was analysed
    notes       texts: what could not be computed, and what a reader must know
    popularity
      groups            list of {group, items, item_share, degree_min, degree_max, train_share,
                        held_out_share}
      cold_held_out_share   share of held-out pairs whose item no training pair has
      tail              the tail is this share of the items, the least popular ones
      rankers           list of {role, label, recall, ndcg, found, list_share, outside, lists}
                          role: run, most_popular, against
                          recall, ndcg: {total, by_group, standard_error}; by_group adds up to total,
                          but for hits on items outside the groups
                          found: per group, share of its held-out pairs that are in the lists
                          list_share: per group, share of the list places; outside: share on items
                          that have no training pair of the run (0 but for `against`)
                          lists: {mean_popularity, gini, coverage, tail_share}
      data              {train, held_out}, each {mean_popularity, gini, coverage, tail_share}
      theory            Eq 9, None where no user has 2 to 1000 training pairs: {applies, reason,
                        n_negatives, users, pairs, difference {median, largest}, correlation,
                        slope {closed_form, minimised, run}, bins}
                          bins: list of {degree_min, degree_max, degree, pairs, expected_count,
                          closed_form, minimised, run}, scores minus their user's mean
    corrections None unless asked for: what corrections of popularity after training cost and bring
      uncorrected       {recall, ndcg, mean_popularity, gini, coverage, tail_share} of the run's lists
      lines             list of {name, rank, reason, points}; rank: what ranks the corrected vectors
                        (dot, cosine); reason: None, or why the correction does not fit the run
                          points: list of {strength, asked (as `--correct` takes it)} and the six figures
    negatives   None when the sampler draws nothing
      temperature, similarity, rows, candidates (mean number of negatives of a row)
      sampler, own      the sampler shown; own is false where the run draws too few negatives a row to
                        speak of a spread, so that uniform ones stand in (not in false_negatives)
      curve             {x, g, peak}: g(x) divided by its maximum, at similarities x; peak is x*
      histogram         {edges (n + 1), negatives, positives, false_negatives, ssm, bpr, bce}; shares (n)
                        of all negatives, positives, false negatives (None without any), and of the
                        length of the negatives' pull on the user under each loss
      beyond_peak       {negatives, ssm}: share of negatives more similar than x*, and of their pull
      stages            list of {stage, epoch, ssm, bpr, bce}: stage is start (not of a run that was
                        trained on from another) or final
      temperatures      list of {temperature, peak, ssm, bpr, bce}
                          ssm, bpr, bce: {entropy, evenness, effective, hardest_1, hardest_5, hardest_10,
                          total}; where the run subtracts log q there is also ssm_plain (in the
                          histogram too), SSM without the subtraction
      false_negatives   {known, held_out, masked, weight}: share of the drawn candidates that are train
                        items of their row's user, that are held out for it, that the run masks; share of
                        SSM's weight on candidates of the first two kinds that are not masked
    bound       list (empty without vectors or loss) of {name, label, pairs, candidates, median_rank,
                terms {neg_log_dcg, neg_log_gain, log_rank, ssm}, gap, violations, spearman,
                temperatures, tightest}
                  name: batch, train, held_out
                  temperatures: list of {temperature, ssm}; tightest: that with the least ssm
    magnitude
      nodes             list of {side, vectors, spearman, bins}; side: items, users; vectors: final, ego,
                        start (final vectors before the first step)
                          bins: list of {degree_min, degree_max, degree, nodes, mean, q25, q75} of norms
      lemma             {alpha, shape, deviation, cases}; cases: list of {mean, intercept, slope,
                        rows}; rows: list of {degree, closed_form, simulated, standard_error}
      message           list of {stage, bins}: mean squared length of one message by item degree, as
                        {degree_min, degree_max, degree, nodes, measured, lemma}
      ranking           list of {similarity, used, recall, ndcg, mean_popularity}: cosine, dot
    geometry    None without vectors
      alignment         {train, held_out, random}
      uniformity        {users, items}
      spectrum          list of {side, vectors, singular_values, effective_rank, first_share, mean_share}
    training    None unless asked for: {k, difference, points}; the run trained once more
                  difference: largest difference of a final vector from the run's own
                  points: list of {epoch, loss, recall, ndcg, bound, negatives}; epoch 0 is the start
                    bound: {batch, train, held_out}, each {neg_log_dcg, neg_log_gain, log_rank, ssm, gap}
                    negatives: {ssm, bpr, bce}, each as in `stages`
    against     None, or {run, negatives, bound, magnitude, geometry} of the other run
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssmrec.analysis.bound import bound_section
from ssmrec.analysis.corrections import corrections_section, traded
from ssmrec.analysis.course import course_section
from ssmrec.analysis.files import plain
from ssmrec.analysis.geometry import geometry_section
from ssmrec.analysis.magnitude import magnitude_section
from ssmrec.analysis.negatives import negatives_section
from ssmrec.analysis.notes import notes, on_other_data, other_data, warning
from ssmrec.analysis.optimum import theory_section
from ssmrec.analysis.popularity import popularity_section
from ssmrec.analysis.subject import Lists, Subject
from ssmrec.data import Interactions
from ssmrec.data.align import same_ids
from ssmrec.errors import ConfigError, DataError, RunError
from ssmrec.evaluation import most_popular
from ssmrec.training import Listener, Trained, label

FORMAT = 1
"""Version of the layout above."""


@dataclass(frozen=True)
class Effort:
    """How much is looked at; more takes longer and varies less.

    Args:
        rows: rows of one batch; users: users whose catalogue is ranked for the bound.
        theory_users: users whose free scores are minimised.
        pairs: pairs for alignment; nodes: nodes for uniformity.
        seed: decides which.
    """

    rows: int = 512
    users: int = 200
    theory_users: int = 40
    pairs: int = 10_000
    nodes: int = 2_000
    seed: int = 0


@dataclass(frozen=True)
class Run:
    """A loaded run and the held-out pairs it is judged on.

    Args:
        trained: as `load_run` gives it; held_out: over the run's vocabularies.
        on: test or valid, the part `held_out` is; folder: where the run lies, for the record.
        other_data: where `held_out` comes from, if from other data than the run's; for the record.
    """

    trained: Trained
    held_out: Interactions
    on: str = "test"
    folder: str | None = None
    other_data: str | None = None

    def subject(self) -> Subject:
        """What the analyses look at; validation pairs are masked only when test is judged.

        Raises:
            DataError: the held-out pairs are over other ids than the run.
        """
        trained = self.trained
        if not isinstance(trained, Trained) or not isinstance(self.held_out, Interactions):
            raise DataError(
                "Run takes a trained run (load_run(folder)[0], or recommender.trained_) and held-out "
                f"Interactions, not {type(trained).__name__} and {type(self.held_out).__name__}"
            )
        if not same_ids(self.held_out, trained.train):
            raise DataError(
                "the held-out pairs have other user or item ids than the run: match them with "
                "ssmrec.data.align.aligned"
            )
        seen = [trained.train, trained.seen] if self.on == "test" else [trained.train]
        return Subject(trained, self.held_out, seen)


def analyze(
    run: Run,
    against: Run | None = None,
    *,
    groups: int = 10,
    k: int = 20,
    effort: Effort | None = None,
    over_training: bool = False,
    corrections: bool = False,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Every analysis of `run`, beside most-popular and, if given, beside another run on the same data.

    Args:
        groups: number of popularity groups; k: length of the lists.
        over_training: train the run once more, and look at it on the way (`training`).
        corrections: rank once more for each strength of each correction of popularity (`corrections`).
        listener: hears of that training.

    Raises:
        ConfigError: `groups` or `k` below 1.
        DataError: the two runs are not judged on the same pairs, or there is no user to average over.
        RunError: the vectors of a run are not numbers.
    """
    if k < 1:
        raise ConfigError(f"k, the length of the lists, must be at least 1, not {k}")
    effort = effort or Effort()
    subject = run.subject()
    _check_numbers(subject)
    lists = subject.lists(k)
    if not (lists.ids >= 0).any():
        raise DataError(
            "every list is empty, as the judged users know all items that have training pairs: there is "
            "nothing to analyse; hold out fewer pairs, or take data with more items"
        )
    others: dict[str, tuple[str, Lists]] = {
        "most_popular": ("most popular", subject.ranked(*most_popular(subject.train), k))
    }
    other = None
    if against is not None:
        _check_same(run.held_out, against.held_out)
        other = against.subject()
        _check_numbers(other)
        others["against"] = (_name(against, run), other.lists(k))
    popularity = popularity_section(subject, lists, others, groups)
    popularity["theory"] = theory_section(subject, effort.theory_users, effort.seed)
    corrected = corrections_section(subject, lists, k) if corrections else None
    facts = _facts(run, lists)
    result = {
        "format": FORMAT,
        "run": facts,
        "settings": {"on": run.on, "k": k, "groups": groups, **vars(effort)},
        "notes": [
            *on_other_data(facts["other_data"], run.on),
            *notes(subject, k, over_training, corrected, popularity["theory"]),
        ],
        "popularity": popularity,
        "corrections": corrected,
        **_sections(subject, lists, k, effort),
        "training": (
            course_section(subject, k, effort.rows, effort.users, effort.seed, listener)
            if over_training
            else None
        ),
        "against": None,
    }
    if against is not None and other is not None:
        theirs = others["against"][1]
        result["against"] = {"run": _facts(against, theirs), **_sections(other, theirs, k, effort)}
    return plain(result)


def _sections(subject: Subject, lists: Lists, k: int, effort: Effort) -> dict[str, Any]:
    """Everything that concerns one run alone; `lists` are its own."""
    seed, own = effort.seed, subject.config.ranking.similarity
    kinds = ("cosine", "dot") if subject.final is not None else ()
    similarities = {
        kind: traded(subject, lists if kind == own else subject.lists(k, kind)) for kind in kinds
    }
    return {
        "negatives": negatives_section(subject, effort.rows, seed),
        "bound": bound_section(subject, effort.rows, effort.users, seed),
        "magnitude": magnitude_section(subject, similarities, seed),
        "geometry": geometry_section(subject, effort.pairs, effort.nodes, seed),
    }


def _facts(run: Run, lists: Lists) -> dict[str, Any]:
    config, metrics, train = run.trained.config, run.trained.metrics, run.trained.train
    solved = metrics["similarity"]["train"] is None
    return {
        "label": label(config),
        "folder": run.folder,
        "model": dict(config.model),
        "loss": None if solved else dict(config.loss),
        "negatives": None if solved else dict(config.negatives),
        "temperature": None if solved else config.loss.get("temperature"),
        "similarity": metrics["similarity"],
        "protocol": metrics["protocol"],
        "warning": warning(metrics),
        "epochs": metrics["epochs"],
        "seed": config.seed,
        "data": config.data.source,
        "users": train.n_users,
        "items": train.n_items,
        "train_pairs": len(train),
        "other_data": other_data(run.other_data, run.held_out, lists.held_out),
    }


def _name(other: Run, run: Run) -> str:
    """The other run's label; with its folder where both have the same one."""
    name = label(other.trained.config)
    same = name == label(run.trained.config)
    return f"{name} ({Path(other.folder).name})" if same and other.folder else name


def _check_same(ours: Interactions, theirs: Interactions) -> None:
    if ours.fingerprint != theirs.fingerprint:
        raise DataError(
            "the two runs are not judged on the same held-out pairs, so their figures do not compare: "
            "choose a run that was trained on the same data and split"
        )


def _check_numbers(subject: Subject) -> None:
    table = subject.final
    if table is not None and not all(np.isfinite(part).all() for part in vars(table).values()):
        raise RunError("the model holds values that are not numbers: train it again")
