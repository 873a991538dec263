"""What the exit codes of several processes mean for the command."""

import pytest

from ssmrec.distributed.launch import _meaning
from ssmrec.distributed.place import LOST


@pytest.mark.parametrize(
    ("codes", "code", "killed"),
    [
        ({0: 2}, 2, ""),
        ({0: 1, 1: 2}, 1, ""),
        ({0: 2, 1: -15}, 2, ""),  # torchrun ended the other: again would repeat the mistake
        ({0: -15, 1: 2}, 2, ""),
        ({1: -15}, 2, "process 1 was killed (SIGTERM)"),
        ({0: LOST, 1: -15}, 2, "process 1 was killed (SIGTERM)"),
        ({0: 2, 1: -9}, 2, "process 1 was killed (SIGKILL)"),
        ({0: LOST}, 2, ""),
    ],
)
def test_a_process_is_called_killed_only_if_that_is_why_all_ended(codes, code, killed):
    assert _meaning(codes) == (code, killed)
