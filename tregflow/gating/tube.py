"""From a file to a tube that can be gated: panel resolved, compensation decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tregflow.compensation import resolve_spillover
from tregflow.errors import FcsError
from tregflow.fcs import read_fcs
from tregflow.sample import sample_from_fcs
from tregflow.template.panel import resolve_panel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tregflow.compensation import Spillover
    from tregflow.errors import Finding
    from tregflow.fcs import FcsFile
    from tregflow.sample import Channel, Sample
    from tregflow.template.model import Template


@dataclass(frozen=True, slots=True)
class Tube:
    """A tube that can be gated: its file, sample, channel by marker, matrix, and what was noticed on the way.

    `spillover` is None where nothing is to be compensated (unmixed values).
    """

    file: FcsFile
    sample: Sample
    channels: Mapping[str, Channel]
    spillover: Spillover | None
    findings: tuple[Finding, ...]

    def is_compensated(self, dimension: str) -> bool:
        """Whether the dimension's channel is in the matrix that is applied."""
        return self.spillover is not None and self.channels[dimension].pnn in self.spillover.channels


def open_tube(
    path: Path,
    template: Template,
    *,
    named: Mapping[str, str] | None = None,
    csv: Path | None = None,
    matrix: Spillover | None = None,
) -> Tube:
    """Everything short of gating: header read, events located, panel resolved, compensation decided.

    Parameters
    ----------
    named
        Marker to `$PnN`, where a manifest names a channel.
    csv
        The spillover matrix that a manifest names.
    matrix
        The matrix that a run applied to this very tube, to apply it again; nothing else is looked for.

    Raises
    ------
    FcsError, PanelError, CompensationError
        What keeps the tube from being gated.
    """
    file = read_fcs(path)
    if file.n_events == 0:
        raise FcsError("TUBE_NO_EVENTS", f"{path.name} holds 0 events.", file=path.name)
    sample = sample_from_fcs(file)
    channels = resolve_panel(template, sample, named)
    if matrix is not None:
        return Tube(file, sample, channels, matrix, file.findings)
    spillover, findings = resolve_spillover(
        file.keywords,
        [c.pnn for c in sample.channels],
        needed=[c.pnn for marker, c in channels.items() if template.panel[marker].kind == "fluorescence"],
        sources=(template.compensation.source, *template.compensation.alternatives),
        csv=csv,
        file=path.name,
    )
    return Tube(file, sample, channels, spillover, (*file.findings, *findings))
