"""Resolving the panel: each marker of a template to exactly one channel of a tube."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tregflow.errors import PanelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tregflow.sample import Channel, Sample
    from tregflow.template.model import PanelEntry, Template

_SEPARATORS = re.compile(r"[\s\-_./]+")


def resolve_panel(template: Template, sample: Sample, named: Mapping[str, str] | None = None) -> dict[str, Channel]:
    """Find the one channel of each marker.

    A marker's aliases are looked for in `$PnANALYTE`, then `$PnS`, then `$PnN`; the first of the three with any match
    decides. Comparison is exact but for case and separators, among channels of the declared pulse feature (a channel
    whose feature the file does not say counts as fitting).

    Parameters
    ----------
    named
        Marker to `$PnN`, from the manifest's `channel_<MARKER>` columns; they come before any alias.

    Returns
    -------
    Channel by marker; optional markers that the tube does not have are left out, unless the manifest names a channel
    for them.

    Raises
    ------
    PanelError
        `PANEL_MARKER_MISSING` or `PANEL_MARKER_AMBIGUOUS` (all markers in one error, with the tube's channels), or
        `PANEL_CHANNEL_SHARED` when two markers come to the same channel.
    """
    named = named or {}
    found: dict[str, Channel] = {}
    missing: list[str] = []
    ambiguous: list[str] = []
    for marker, entry in template.panel.items():
        matches = _matches(entry, sample, named.get(marker))
        if len(matches) == 1:
            found[marker] = matches[0]
        elif matches:
            ambiguous.append(f"{marker} matches {len(matches)} ({', '.join(c.label for c in matches)})")
        elif entry.required or marker in named:
            missing.append(f"{marker} (looked for: {named.get(marker) or ', '.join(entry.aliases)})")
    unknown = sorted(set(named) - set(template.panel))
    missing += [f"{marker} (named in the manifest, not in the template's panel)" for marker in unknown]
    where = f"in {sample.name}; template {template.id} {template.version} needs exactly one channel each"
    channels = ", ".join(c.label for c in sample.channels)
    if missing:
        also = f" Besides, {'; '.join(ambiguous)}." if ambiguous else ""
        raise PanelError(
            "PANEL_MARKER_MISSING", f"no channel for {'; '.join(missing)} {where}. The tube has: {channels}.{also}"
        )
    if ambiguous:
        raise PanelError("PANEL_MARKER_AMBIGUOUS", f"{'; '.join(ambiguous)} {where}.")
    _check_distinct(found, sample)
    return found


def _matches(entry: PanelEntry, sample: Sample, named: str | None) -> list[Channel]:
    if named is not None:
        return [c for c in sample.channels if c.pnn == named]
    wanted = {fold_label(alias) for alias in entry.aliases}
    fitting = [c for c in sample.channels if c.feature in {entry.feature, ""}]
    if entry.kind == "time":
        fitting = list(sample.channels)
    for label in ("analyte", "pns", "pnn"):
        matches = [c for c in fitting if getattr(c, label) and fold_label(getattr(c, label)) in wanted]
        if matches:
            return matches
    return []


def fold_label(label: str) -> str:
    """A label without case and separators: what two spellings of one marker have in common."""
    return _SEPARATORS.sub("", label).casefold()


def _check_distinct(found: Mapping[str, Channel], sample: Sample) -> None:
    owners: dict[int, str] = {}
    for marker, channel in found.items():
        if owners.setdefault(channel.index, marker) != marker:
            raise PanelError(
                "PANEL_CHANNEL_SHARED",
                f"{owners[channel.index]} and {marker} are both {channel.label} in {sample.name}; "
                "expected a channel of its own for each marker.",
            )
