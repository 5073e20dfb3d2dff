"""Options of the test run."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--regen-golden` writes tests/golden anew; a difference needs a line under Numbers in CHANGELOG.md."""
    parser.addoption("--regen-golden", action="store_true", help="write tests/golden anew")
