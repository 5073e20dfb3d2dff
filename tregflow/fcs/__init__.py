"""Bytes to `FcsFile` and back: FCS 2.0, 3.0, 3.1 and 3.2. The only code that knows the byte layout."""

from tregflow.fcs.events import FcsFile
from tregflow.fcs.keywords import Keywords
from tregflow.fcs.model import FcsText, Parameter
from tregflow.fcs.read import read_fcs, read_text
from tregflow.fcs.write import write_fcs

__all__ = ["FcsFile", "FcsText", "Keywords", "Parameter", "read_fcs", "read_text", "write_fcs"]
