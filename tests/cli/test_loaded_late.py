"""What needs no model waits for no torch: help, completion of words, `import ssmrec`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import ssmrec
from ssmrec.cli import COMMANDS
from ssmrec.cli.shape import _loaded

WITHOUT_TORCH = """
import sys
sys.argv = ["ssmrec", *sys.argv[1:]]
from ssmrec.cli import main
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


def alone(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; the last line of stderr says whether torch was loaded."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says(name):
    first, _, _ = _loaded(name).help.partition("\n\n")
    assert COMMANDS[name] == " ".join(first.split())


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["data", "--help"], ["recipes"]])
def test_help_waits_for_no_torch(words):
    found = alone(*words)
    assert found.returncode == 0 and found.stdout and found.stderr.split()[-1] == "False"


@pytest.mark.parametrize(
    ("line", "number", "offered"),
    [("ssmrec tr", 1, ["train"]), ("ssmrec data st", 2, ["stats"])],
)
def test_completion_waits_for_no_torch(line, number, offered):
    found = alone(_SSMREC_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(number))
    assert found.stdout.split() == offered and found.stderr.split()[-1] == "False"


def test_a_program_has_it_all_at_once():
    code = "import sys, ssmrec; assert {'torch', 'ssmrec.recommender'} <= {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_found_and_a_typo_is_told():
    assert {*ssmrec.__all__, "losses", "evaluation"} <= {*dir(ssmrec)}
    for name in dir(ssmrec):
        assert getattr(ssmrec, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Recomender'"):
        ssmrec.Recomender  # noqa: B018


def test_words_are_completed_under_one_name_however_it_was_started():
    """For `python -m ssmrec` the shell would else complete the words of python."""
    said = subprocess.run(
        [sys.executable, "-m", "ssmrec", "--show-completion", "bash"],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
    )
    assert "_SSMREC_COMPLETE=" in said.stdout and said.stdout.endswith(
        "_ssmrec_completion ssmrec\n"
    )
