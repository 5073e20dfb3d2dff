"""What several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def real_data(*parts: str) -> Path:
    """A path below the folder of real FCS files; without that folder the test skips, or fails if they are required."""
    folder = Path(os.environ.get("TREGFLOW_REAL_DATA", ROOT.parent / "shared" / "data"))
    path = folder.joinpath(*parts)
    if not path.exists():
        reason = f"real FCS data are not here: set TREGFLOW_REAL_DATA to their folder ({'/'.join(parts)} is missing)"
        if os.environ.get("TREGFLOW_REQUIRE_REAL_DATA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return path
