"""Blocks of a page that a command writes, between two comments; what stands around them is written by people."""

from __future__ import annotations

from pathlib import Path


def write_block(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- begin NAME -->` and `<!-- end NAME -->`; a page without them is an error."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page.name} has no place for {name}: it needs {begin} and {end}")
    page.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", encoding="utf-8", newline="")


def as_markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; numbers to the right."""
    ruler = "|".join("---:" if all(_is_number(row[at]) for row in rows) else "---" for at in range(len(header)))
    return "\n".join(["| " + " | ".join(header) + " |", f"|{ruler}|", *("| " + " | ".join(r) + " |" for r in rows)])


def _is_number(text: str) -> bool:
    return not text or text.lstrip("+-").replace(",", "").replace(".", "").isdigit()
