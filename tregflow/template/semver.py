"""Versions of templates: Semantic Versioning, and which part of a version a change demands.

References
----------
Semantic Versioning 2.0.0. It leaves open what 0.x promises; here, while MAJOR is 0, a step of MINOR may do what later
takes a step of MAJOR, and nothing else is different.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Part = Literal["none", "patch", "minor", "major"]
PARTS: tuple[Part, ...] = ("none", "patch", "minor", "major")
_VERSION = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(?:-([0-9A-Za-z.-]+))?")


@dataclass(frozen=True, slots=True)
class Version:
    """A version; `pre` is what stands behind the hyphen, empty for one that can be released."""

    major: int
    minor: int
    patch: int
    pre: str = ""

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}" + (f"-{self.pre}" if self.pre else "")

    @property
    def numbers(self) -> tuple[int, int, int]:
        """The three numbers, to compare released versions by."""
        return self.major, self.minor, self.patch

    def after(self, part: Part) -> Version:
        """The lowest version that may hold a change that demands `part`."""
        if part == "major" and self.major > 0:
            return Version(self.major + 1, 0, 0)
        if part in {"major", "minor"}:
            return Version(self.major, self.minor + 1, 0)
        return Version(self.major, self.minor, self.patch + 1)


def parse_version(text: str) -> Version | None:
    """A version from its text, None where it is none by the standard (`01.0.0`, `1.0`)."""
    found = _VERSION.fullmatch(text)
    return None if found is None else Version(int(found[1]), int(found[2]), int(found[3]), found[4] or "")


def step(before: Version, after: Version) -> Part:
    """The part by which `after` is above `before`, for what it may hold; `none` where it is not above."""
    if after.numbers <= before.numbers:
        return "none"
    if after.major > before.major or (before.major == 0 and after.minor > before.minor):
        return "major"
    return "minor" if after.minor > before.minor else "patch"


def enough(before: Version, after: Version, demanded: Part) -> bool:
    """Whether a version is far enough above another for changes that demand a part."""
    taken = step(before, after)
    return taken != "none" and PARTS.index(taken) >= PARTS.index(demanded)
