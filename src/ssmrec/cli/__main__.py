"""`python -m ssmrec.cli`."""

from ssmrec.cli import main

main()
