"""Mistakes in words and options are one line, as all other errors are."""

from __future__ import annotations

import pytest

from command_line import ssmrec


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recommend", "r", "--top", 0], "--top: must be at least 1; see ssmrec recommend --help"),
        (["train", "--epochs", 1.5], "--epochs: must be a whole number; see ssmrec train --help"),
        (
            ["train", "--epohcs", 3],
            "no such option: --epohcs, did you mean --epochs?; see ssmrec train --help",
        ),
        (["trian", "x"], "no such command 'trian', did you mean 'train'?; see ssmrec --help"),
        (["data", "stat"], "no such command 'stat', did you mean 'stats'?; see ssmrec data --help"),
        (
            ["train", "x", "--debug"],
            "--debug stands before the command, as in `ssmrec --debug train ...`",
        ),
        (
            ["data", "stats", "x", "-q"],
            "-q stands before the command, as in `ssmrec -q data stats ...`",
        ),
        (["recommend"], "missing argument 'run'; see ssmrec recommend --help"),
    ],
)
def test_a_wrong_word_is_one_line_that_names_it(tmp_path, words, said):
    assert ssmrec(*words, cwd=tmp_path) == (2, "", f"error: {said}\n")


def test_help_and_version_are_as_ever(tmp_path):
    code, out, err = ssmrec("train", "--help", cwd=tmp_path)
    assert code == 0 and "Examples:" in out and err == ""
    code, out, _ = ssmrec(cwd=tmp_path)
    assert code == 2 and "ssmrec demo" in out
