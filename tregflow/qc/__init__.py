"""Quality checks: pure functions giving findings; every limit is in the template."""

from tregflow.qc.placement import check_placement
from tregflow.qc.tube import check_tube

__all__ = ["check_placement", "check_tube"]
