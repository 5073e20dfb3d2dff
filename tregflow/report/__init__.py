"""Results on disk -> one self-contained page that opens offline, prints, and reads without JavaScript.

The page is made from `samples/*.json`, `endpoint.csv`, `findings.csv` and, where there is one, `modes.csv` alone, and
repeats byte for byte.
"""

from __future__ import annotations

import base64
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from tregflow.atomic import write_atomic
from tregflow.report.inputs import read_results
from tregflow.report.view import page

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["render_report", "write_report"]


def render_report(results: Path) -> str:
    """Render `report.html` from a results folder.

    Parameters
    ----------
    results
        The folder that `tregflow gate` wrote.

    Raises
    ------
    BatchError
        `REPORT_INPUT_MISSING`, `REPORT_INPUT_INVALID`.
    """
    return environment().get_template("base.html.jinja").render(page(read_results(results)))


def write_report(results: Path) -> Path:
    """Write `report.html` into the results folder, atomically, and return its path. Errors as `render_report`."""
    path = results / "report.html"
    write_atomic(path, render_report(results).encode())
    return path


@cache
def environment() -> Environment:
    """The page templates, with what they print besides their data."""
    environment = Environment(
        loader=PackageLoader("tregflow.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = _asset
    environment.globals["plotly_source"] = _plotly_source
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    return environment


def _asset(name: str) -> Markup:
    """Our own CSS and JavaScript, written into the page as they are."""
    return Markup(files("tregflow.report").joinpath("assets", name).read_text(encoding="utf-8"))  # noqa: S704


def _plotly_source() -> Markup:
    """plotly.js from the installed package; it stands in a script element, which only `</script` could end early."""
    return Markup(get_plotlyjs().replace("</script", "<\\/script"))  # noqa: S704
