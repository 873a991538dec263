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


BOB = "postgresql://bob:PW@host/db"
SHOWN = "postgresql://bob:***@host/db"


@pytest.mark.parametrize(
    ("words", "place", "advice"),
    [
        (["export", "run", "--out", BOB], "--out", "write to it with --to"),
        (["recommend", "run", "--out", BOB], "--out", "write to it with --to"),
        (["recommend", "run", "-u", "7", "-u", BOB], "--users", "reads one with --query"),
        (["recommend", "run", "7", BOB], "MORE", "reads one with --query"),
        (["similar", "run", BOB], "ITEMS", "reads one with --query"),
        (["train", "x.csv", "--out", BOB], "--out", "reads one with --query"),
        (["data", "encode", "x.csv", "--out", BOB], "--out", "reads one with --query"),
        (["report", "run", BOB], "RUNS", "reads one with --query"),
        *(
            ([name, BOB], "RUN", "reads one with --query")
            for name in ("serve", "evaluate", "index")
        ),
    ],
)
def test_a_database_is_no_file_and_its_password_is_not_shown(tmp_path, words, place, advice):
    code, out, err = ssmrec(*words, cwd=tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {place}: {SHOWN} is a database, and no file, folder or id; ")
    assert advice in err and not list(tmp_path.iterdir())


def test_other_addresses_are_no_file_of_this_machine_but_may_be_ids(tmp_path):
    code, _, err = ssmrec("index", "run", "--out", "s3://me:PW@shop/x?sign=1", cwd=tmp_path)
    told = "s3://me:***@shop/x is an address, and no file or folder of this machine"
    assert (code, err) == (2, f"error: --out: {told}\n")
    code, _, err = ssmrec("similar", "run", "tracks://7", "https://shop/lamp", cwd=tmp_path)
    assert code == 2 and "run: not a finished run" in err


def test_help_and_version_are_as_ever(tmp_path):
    code, out, err = ssmrec("train", "--help", cwd=tmp_path)
    assert code == 0 and "Examples:" in out and err == ""
    code, out, _ = ssmrec(cwd=tmp_path)
    assert code == 2 and "ssmrec demo" in out
