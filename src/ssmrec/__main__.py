"""`python -m ssmrec`."""

from ssmrec.cli import main

if __name__ == "__main__":  # the processes of a comparison import this file under another name
    main()
