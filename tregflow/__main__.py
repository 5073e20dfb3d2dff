"""`python -m tregflow` is the command `tregflow`."""

from tregflow.cli import main

main()
