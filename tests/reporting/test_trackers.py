"""TensorBoard and MLflow get what the run holds: read back from what they wrote."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

import polars as pl
import pytest

import ssmrec
from ssmrec.errors import ConfigError, RunError
from ssmrec.reporting.listeners import Listeners
from ssmrec.reporting.trackers import MLflow, TensorBoard, Tracker, results, trackers
from ssmrec.training import Listener, resolve, train_run
from ssmrec.training.given import flat

SETTINGS = {
    "model": {"name": "mf", "dim": 8},
    "train": {
        "protocol": "refit",
        "epochs": 3,
        "batch_size": 128,
        "metric": "ndcg@5",
        "threads": 1,
    },
    "evaluation": {"metrics": ["recall", "ndcg"], "ks": [5]},
}


class Spy(Tracker):
    """Keeps what it hears; `broken` at one of its calls."""

    name = "spy"

    def __init__(self, broken=""):
        super().__init__()
        self.broken, self.heard = broken, []

    def _hear(self, what, *more):
        self.heard.append((what, *more))
        if what == self.broken:
            raise OSError("the line is dead\nand more")

    def open(self, settings):
        self._hear("open", settings)

    def log(self, values, step):
        self._hear("log", step, values)

    def results(self, values):
        self._hear("results", values)

    def close(self):
        self._hear("close", self.status)


def trained(split, *members):
    """A small training that all of these follow."""
    config = resolve(SETTINGS)
    with Listeners(members) as ears:
        ears.begin(config)
        run = train_run(config, split, ears)
        ears.finish(run.metrics)
    return run


def test_a_tracker_hears_settings_epochs_by_phase_and_results(tastes):
    spy = Spy()
    run = trained(tastes, spy)
    assert spy.heard[0] == ("open", flat(run.config.model_dump(mode="json")))
    logged = [entry[1:] for entry in spy.heard if entry[0] == "log"]
    rows = [
        (
            row["epoch"],
            {f"{row['phase']}/{k}": v for k, v in row.items() if k not in ("epoch", "phase")},
        )
        for row in run.history
    ]
    assert logged == rows and {name for _, row in rows for name in row} >= {
        "select/loss", "select/ndcg@5", "select/train_seconds", "refit/loss",
    }  # fmt: skip
    assert spy.heard[-2:] == [("results", results(run.metrics)), ("close", "finished")]
    found = results(run.metrics)
    assert found["test/ndcg@5"] == run.metrics["test"]["ndcg@5"]
    assert found["valid/recall@5"] == run.metrics["valid"]["recall@5"]
    assert found["seconds/train"] == run.metrics["seconds"]["train"]
    assert found["best_epoch"] == run.metrics["best_epoch"]


@pytest.mark.parametrize("broken", ["log", "results", "close"])
def test_what_breaks_while_training_is_told_once_and_costs_nothing(tastes, caplog, broken):
    spy, other = Spy(broken), Spy()
    with caplog.at_level(logging.WARNING, "ssmrec"):
        run = trained(tastes, spy, other)
    told = [r.getMessage() for r in caplog.records if "spy" in r.getMessage()]
    assert told == ["spy: OSError: the line is dead; the training goes on without it"]
    assert run.metrics["test"]["ndcg@5"] > 0
    assert [entry[0] for entry in spy.heard].count(broken) == 1
    assert other.heard[-1] == ("close", "finished")


def test_what_cannot_be_opened_is_an_error_before_training(tastes):
    with pytest.raises(RunError, match=r"spy: cannot be written to \(OSError: the line is dead\)"):
        trained(tastes, Spy("open"))


def test_a_training_that_dies_is_marked(tastes):
    class Dead(Listener):
        def epoch(self, record, best):
            raise KeyError("dead")

    spy = Spy()
    with pytest.raises(KeyError):
        trained(tastes, spy, Dead())
    assert spy.heard[-1] == ("close", "failed")


def test_an_interrupted_training_is_marked(tastes):
    class Stop(Listener):
        def epoch(self, record, best):
            raise KeyboardInterrupt

    spy = Spy()
    trained(tastes, spy, Stop())
    assert spy.heard[-1] == ("close", "interrupted")


def test_each_listener_hears_everything_in_order():
    said = []

    class Ear(Listener):
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            said.append((self.name, "enter"))
            return self

        def __exit__(self, *_):
            said.append((self.name, "exit"))

        def phase(self, name, epochs, device):
            said.append((self.name, "phase", name, epochs, device))

        def step(self, epoch, done, total, loss):
            said.append((self.name, "step", epoch, done, total, loss))

        def epoch(self, record, best):
            said.append((self.name, "epoch", record, best))

        def evaluating(self, done, total):
            said.append((self.name, "evaluating", done, total))

        def note(self, text):
            said.append((self.name, "note", text))

    with Listeners([Ear("a"), Ear("b")]) as ears:
        ears.phase("select", 3, "cpu")
        ears.step(1, 2, 3, 0.5)
        ears.epoch({"epoch": 1}, True)
        ears.evaluating(1, 2)
        ears.note("hm")
    calls = [("phase", "select", 3, "cpu"), ("step", 1, 2, 3, 0.5), ("epoch", {"epoch": 1}, True),
             ("evaluating", 1, 2), ("note", "hm")]  # fmt: skip
    between = [(name, *call) for call in calls for name in "ab"]
    assert said == [("a", "enter"), ("b", "enter"), *between, ("b", "exit"), ("a", "exit")]


def test_a_warning_is_shown_by_who_shows_it_and_logged_once_by_nobody(caplog):
    shown = []

    class Bar(Listener):
        def warning(self, text):
            shown.append(text)

    with caplog.at_level(logging.WARNING, "ssmrec"):
        Listeners([Bar(), Spy(), Listener()]).warning("seen")
        assert shown == ["seen"] and not caplog.records
        Listeners([Spy(), Listener()]).warning("logged")
        Listeners([]).warning("alone")
    assert [r.getMessage() for r in caplog.records] == ["logged", "alone"]


# TensorBoard


def board(folder):
    """Everything that the event files of a folder hold."""
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = module.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return found


def curve(found, tag):
    return {event.step: event.value for event in found.Scalars(tag)}


def test_tensorboard_holds_the_history(tastes, tmp_path):
    pytest.importorskip("tensorboard")
    run = trained(tastes, TensorBoard(tmp_path))
    found = board(tmp_path)
    for key in ("loss", "ndcg@5", "train_seconds", "examples_per_second"):
        rows = {r["epoch"]: r[key] for r in run.history if r["phase"] == "select"}
        assert curve(found, f"select/{key}") == pytest.approx(rows, rel=1e-6)
    assert len(curve(found, "refit/loss")) == run.metrics["best_epoch"]
    for name, value in results(run.metrics).items():
        assert list(curve(found, name).values()) == pytest.approx([value], rel=1e-6)
    text = found.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "    model.dim: 8\n" in text and "    loss.name: ssm\n" in text


def test_tensorboard_holds_the_settings_as_hparams(tastes, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    trained(tastes, TensorBoard(tmp_path))
    content = board(tmp_path).SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    data = plugin_data_pb2.HParamsPluginData.FromString(content)
    values = data.session_start_info.hparams
    assert values["model.dim"].number_value == 8 and values["loss.name"].string_value == "ssm"


def test_a_new_training_replaces_the_events_and_a_resumed_one_adds(tastes, tmp_path):
    pytest.importorskip("tensorboard")
    trained(tastes, TensorBoard(tmp_path))
    first = {path.name for path in tmp_path.iterdir()}
    (tmp_path / "mine.txt").write_text("")
    trained(tastes, TensorBoard(tmp_path, resume=True))
    assert first < {path.name for path in tmp_path.iterdir()}
    trained(tastes, TensorBoard(tmp_path))
    assert not first & {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "mine.txt").exists()


def test_fit_takes_listeners(tastes, tmp_path):
    pytest.importorskip("tensorboard")
    rec = ssmrec.Recommender(SETTINGS["model"], train={**SETTINGS["train"], "protocol": "valid"})
    rec.fit(tastes.train, tastes.valid, progress=False, listeners=[TensorBoard(tmp_path)])
    losses = {row["epoch"]: row["loss"] for row in rec.history_}
    assert curve(board(tmp_path), "select/loss") == pytest.approx(losses, rel=1e-6)


# MLflow


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store of files of its own, and a client that reads it."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri := f"file://{tmp_path}/store")
    return mlflow.MlflowClient(tracking_uri=uri)


def only_run(client, experiment="ssmrec"):
    number = client.get_experiment_by_name(experiment).experiment_id
    (run,) = client.search_runs([number])
    return run


def test_mlflow_holds_the_history_and_the_settings(tastes, store):
    run = trained(tastes, MLflow("shop", "runs/shop"))
    found = only_run(store)
    assert found.info.status == "FINISHED" and found.info.run_name == "shop"
    assert found.data.tags["folder"] == "runs/shop"
    settings = flat(run.config.model_dump(mode="json"))
    assert found.data.params == {key: str(value)[:500] for key, value in settings.items()}
    for key in ("loss", "ndcg@5", "train_seconds"):
        rows = {r["epoch"]: r[key] for r in run.history if r["phase"] == "select"}
        name = f"select/{key.replace('@', '_at_')}"
        points = store.get_metric_history(found.info.run_id, name)
        assert {p.step: p.value for p in points} == pytest.approx(rows)
    for name, value in results(run.metrics).items():
        assert found.data.metrics[name.replace("@", "_at_")] == pytest.approx(value)


def test_mlflow_marks_what_failed_and_what_was_interrupted(tastes, store):
    for error, status in ((KeyError, "FAILED"), (KeyboardInterrupt, "KILLED")):

        class Stop(Listener):
            def epoch(self, record, best, error=error):
                raise error

        tracker = MLflow(experiment=status)
        with suppress(KeyError):
            trained(tastes, tracker, Stop())
        assert only_run(store, status).info.status == status


def test_mlflow_takes_the_experiment_of_its_variable(tastes, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "shops")
    for _ in range(2):  # made once, then found
        trained(tastes, MLflow())
    number = store.get_experiment_by_name("shops").experiment_id
    assert len(store.search_runs([number])) == 2


@pytest.mark.slow
def test_mlflow_writes_to_a_database(tastes, tmp_path):
    """Its tables take some seconds to be made."""
    mlflow, _ = pytest.importorskip("mlflow"), pytest.importorskip("alembic")
    uri = f"sqlite:///{tmp_path}/store.db"
    run = trained(tastes, MLflow(uri=uri, experiment="shops"))
    found = only_run(mlflow.MlflowClient(tracking_uri=uri), "shops")
    value = run.metrics["test"]["ndcg@5"]
    assert found.data.metrics["test/ndcg_at_5"] == pytest.approx(value)
    assert found.info.status == "FINISHED"


# Names, packages, the command


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow")]
)
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)  # an import of it fails, as when not installed
    with pytest.raises(ConfigError, match=rf"pip install 'ssmrec\[{name}\]'"):
        trackers([name], tmp_path)


def test_a_misspelt_tracker_names_the_nearest(tmp_path):
    with pytest.raises(
        ConfigError, match="unknown --track 'tensorbord', did you mean 'tensorboard'"
    ):
        trackers(["tensorbord"], tmp_path)
    assert trackers([], tmp_path) == []


def test_a_tracker_asked_for_twice_is_there_once(tmp_path):
    pytest.importorskip("tensorboard")
    assert len(trackers(["tensorboard", "tensorboard"], tmp_path)) == 1


def test_the_command_tracks_trainings_and_updates(command, tmp_path, store):
    pytest.importorskip("tensorboard")
    rows = [(f"u{u}", i) for u in range(40) for i in range(30) if (u * 7 + i * 5) % 11 < 4]
    frame = pl.DataFrame(rows, schema=["user", "item"], orient="row").sample(
        fraction=1, shuffle=True, seed=0
    )
    frame.head(350).write_csv(tmp_path / "clicks.csv")
    frame.tail(-350).write_csv(tmp_path / "new.csv")
    both = ("--track", "tensorboard", "--track", "mlflow")
    words = ("clicks.csv", "--model", "mf", "--epochs", "2", "--out", "run", *both)
    code, _, err = command("train", *words)
    assert code == 0, err
    losses = curve(board(tmp_path / "run/tensorboard"), "select/loss")
    assert sorted(losses) == [1, 2]
    assert only_run(store).data.metrics["select/loss"] == pytest.approx(losses[2], rel=1e-6)
    code, _, err = command("update", "run", "new.csv", "--out", "second", "--track", "tensorboard")
    assert code == 0, err
    assert sorted(curve(board(tmp_path / "second/tensorboard"), "select/loss")) == [1]


def test_the_command_says_what_it_cannot_track(command, tmp_path):
    code, _, err = command("train", "online-retail", "--track", "wandb", "--out", "run")
    assert code == 2 and "unknown --track 'wandb'" in err and "Traceback" not in err
    assert not (tmp_path / "run").exists()
