"""The self-test of an installation, and the record that a laboratory keeps of it."""

from tregflow.selftest.page import installation_verdict, write_installation
from tregflow.selftest.run import Installation, run_selftest

__all__ = ["Installation", "installation_verdict", "run_selftest", "write_installation"]
