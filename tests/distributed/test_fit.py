"""What several processes can train, and how a process finds its place."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import pytest

from ssmrec.distributed import Place
from ssmrec.distributed.fit import admit
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
def test_the_interface_that_leads_to_a_machine():
    assert interface_to("127.0.0.1") == "lo"
    assert interface_to("no machine of this name") is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--hosts", "2"], "--hosts 2 needs --host 0 to 1"),
        (["--host", "1"], "--host and --meeting are for several machines: say how many, --hosts 2"),
        (["--hosts", "2", "--meeting", "here"], "--meeting here: must be NAME:PORT of machine 0"),
        (["--hosts", "2", "--meeting", "here:abc"], "must be NAME:PORT"),
        (["--hosts", "2", "--meeting", "here:80000"], "the port from 1 to 65535"),
        (["--hosts", "2", "--meeting", "no-such-host.invalid:29500"], "no machine of that name"),
    ],
)
def test_a_launch_that_cannot_meet_is_one_line(command, words, said):
    code, _, err = command("launch", "-n", "2", *words, "train", "online-retail")
    assert code == 2 and said in err and "Traceback" not in err


@pytest.mark.skipif(find_spec("torchrec") is not None, reason="torchrec is installed")
def test_sharding_without_torchrec_is_refused_before_reading():
    config = resolve({"model": {"name": "mf"}, "distributed": {"tables": "sharded"}})
    with pytest.raises(ConfigError, match=r"needs TorchRec \(no torchrec\)"):
        admit(config, PAIR)
