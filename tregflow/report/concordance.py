"""The concordance of a FlowJo workspace as one self-contained page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tregflow.report import environment
from tregflow.version import __version__

if TYPE_CHECKING:
    from tregflow.exchange.concordance import Concordance

VERDICTS = {
    "equal": "equal: FlowJo's count is our exact count",
    "bins": "explained by FlowJo's bins: it is our count on the bins of its display",
    "small": "within the tolerance: it is neither, and the difference is small",
    "unexplained": "unexplained, over the tolerance",
    "no_count": "not counted by FlowJo",
}


def concordance_page(found: Concordance) -> str:
    """One HTML page with every population; all numbers are the comparison's."""
    return (
        environment()
        .get_template("concordance.html.jinja")
        .render(
            found=found,
            verdicts=[(name, words, found.n(name)) for name, words in VERDICTS.items() if found.n(name)],  # type: ignore[arg-type]
            version=__version__,
        )
    )
