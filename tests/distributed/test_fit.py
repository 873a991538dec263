"""What several processes can train, and how a process finds its place."""

from __future__ import annotations

import os
import re
import sys
from importlib.util import find_spec
from typing import Any

import pytest

from processes import warned
from ssmrec.distributed import Place, Together, fit
from ssmrec.distributed.fit import admit, shards, tell_memory
from ssmrec.distributed.place import interface_to
from ssmrec.distributed.worker import _check_verb
from ssmrec.errors import ConfigError
from ssmrec.training import resolve

PAIR = Place(0, 2, 0, 2)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": {"name": "ease"}}, "model=ease is solved at once, by one process"),
        ({"loss": {"name": "directau"}}, "loss=directau looks at all rows of a batch at once"),
        ({"loss": {"name": "bc"}}, "has parameters of its own"),
        ({"train": {"budget": 5}}, "tries several models in one process"),
    ],
)
def test_what_several_processes_cannot_train_is_refused(asked: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        admit(resolve(asked), PAIR)


@pytest.mark.parametrize("model", ["mf", "lightgcn", "svdpp", "simgcl"])
def test_the_rest_is_admitted(model):
    admit(resolve({"model": {"name": model}}), PAIR)


def test_other_commands_run_in_one_process():
    _check_verb(["-q", "train", "x.csv"])
    _check_verb(["--help"])
    with pytest.raises(ConfigError, match="ssmrec recommend runs in one process"):
        _check_verb(["-q", "recommend", "run"])


def test_the_place_is_that_of_the_variables():
    variables = {"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "one", "MASTER_PORT": "29500"}
    assert Place.found({}) is None
    assert Place.found({**variables, "MASTER_PORT": ""}) is None
    assert Place.found(variables) == Place(5, 8, 0, 8, 0)
    local = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "TORCHELASTIC_RESTART_COUNT": "2"}
    assert Place.found({**variables, **local}) == Place(5, 8, 1, 4, 2)
    with pytest.raises(ConfigError, match="WORLD_SIZE=many: must be a number"):
        Place.found({**variables, "WORLD_SIZE": "many"})


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the addresses of interfaces")
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="not told by this system")
def test_processes_share_the_cores_they_may_use():
    mine = os.sched_getaffinity(0)
    assert Together(Place(0, 1, 0, 1)).threads == len(mine)
    os.sched_setaffinity(0, {min(mine)})
    try:
        assert Together(Place(0, 1, 0, 1)).threads == 1
    finally:
        os.sched_setaffinity(0, mine)


def test_the_interface_that_leads_to_a_machine():
    assert interface_to("127.0.0.1") == "lo"
    assert interface_to("no machine of this name") is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--hosts", "2"], "--hosts 2 needs --host 0 to 1"),
        (["--host", "1"], "are for several machines: say how many, --hosts 2"),
        (["--hosts", "2", "--meeting", "here"], "--meeting here: must be NAME:PORT of machine 0"),
        (["--hosts", "2", "--meeting", "here:abc"], "must be NAME:PORT"),
        (["--hosts", "2", "--meeting", "here:80000"], "the port from 1 to 65535"),
        (["--hosts", "2", "--meeting", "no-such-host.invalid:29500"], "no machine of that name"),
    ],
)
def test_a_launch_that_cannot_meet_is_one_line(command, words, said):
    code, _, err = command("launch", "-n", "2", *words, "train", "online-retail")
    assert code == 2 and said in err and "Traceback" not in err


def test_auto_divides_tables_that_take_half_the_memory(monkeypatch):
    """1,500 rows of 8 numbers: the table and the best one, gradient, two moments, two to evaluate."""
    config = resolve({"model": {"name": "mf", "dim": 8}, "train": {"device": "cpu"}})
    whole = 7 * 4 * 1500 * 8
    for every, divided in ((4 * whole, False), (4 * whole - 4, True), (None, False)):
        monkeypatch.setattr(fit, "all_memory", lambda device, every=every: every)
        assert shards(config, 1000, 500, PAIR) == divided
    assert not shards(resolve({"model": {"name": "lightgcn", "dim": 8}}), 10**6, 10**6, PAIR)


@pytest.mark.parametrize("model", ["mf", "svdpp", "lightgcn", "ngcf", "simgcl"])
def test_the_memory_of_each_process_is_told(model, tastes, caplog, monkeypatch):
    monkeypatch.setattr(fit, "all_memory", lambda device: 8 * 10**9)
    config = resolve({"model": {"name": model}, "train": {"device": "cpu"}})
    with caplog.at_level("INFO", "ssmrec"):
        tell_memory(config, tastes.train, PAIR, 1.0)
    (line,) = caplog.messages
    assert re.fullmatch(
        r"memory of each process: about \d+\.\d MB \(tables .*, optimiser .*, vectors .*, pairs .*, "
        r"batch .*\) of 4000 MB; tables replicated",
        line,
    )


@pytest.mark.parametrize(("model", "pair_bytes"), [("mf", 18), ("lightgcn", 34)])
def test_too_little_memory_is_told_in_several_processes(pair, model, pair_bytes):
    """Of 1,000,000 pairs they hold 36 bytes each together, and 16 for the edges of a graph alone."""
    asked = {"model": {"name": model, "dim": 1}, "train": {"device": "cpu", "batch_size": 2}}
    for said, needed in pair.run(warned, asked, 10**7):
        assert 0 <= needed - pair_bytes * 10**6 < 10**5
        assert said.startswith(
            "this training needs about 0.0 GB of memory in each of 2 processes ("
        )
    for said, _ in pair.run(warned, asked, 2 * needed):
        assert said == ""


@pytest.mark.skipif(find_spec("torchrec") is not None, reason="torchrec is installed")
def test_sharding_without_torchrec_is_refused_before_reading():
    config = resolve({"model": {"name": "mf"}, "distributed": {"tables": "sharded"}})
    with pytest.raises(ConfigError, match=r"needs TorchRec \(no torchrec\)"):
        admit(config, PAIR)
