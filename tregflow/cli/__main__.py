"""`python -m tregflow.cli` is the command `tregflow`."""

from tregflow.cli import main

main()
