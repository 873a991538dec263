"""Several processes, on one machine or more, that train one model (docs/howto/several-machines.md)."""

from ssmrec.distributed.group import Together
from ssmrec.distributed.launch import launch
from ssmrec.distributed.place import Place
from ssmrec.distributed.worker import work

__all__ = ["Place", "Together", "launch", "work"]
