"""The second opinion on a results folder: what was written is still there, and others find the same."""

from tregflow.verify.model import Certificate, Check, PopulationAgreement, Problem, TubeFound
from tregflow.verify.page import write_certificate
from tregflow.verify.run import verify_results
from tregflow.verify.tables import compare_tables

__all__ = [
    "Certificate",
    "Check",
    "PopulationAgreement",
    "Problem",
    "TubeFound",
    "compare_tables",
    "verify_results",
    "write_certificate",
]
