"""`python -m ssmrec`."""

from ssmrec.cli import main

main()
