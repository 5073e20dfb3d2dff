"""What `flowkit_loop.py` does, by tregflow: read and gate one tube after the other, print the counts, nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

from threadpoolctl import threadpool_limits

from tregflow.gating import gate_sample, open_tube
from tregflow.template.registry import load_template


def main() -> None:
    template = load_template(sys.argv[1]).template
    for path in sorted(Path(sys.argv[2]).glob("*.fcs")):
        tube = open_tube(path, template)
        result = gate_sample(tube.sample, template, channels=tube.channels, spillover=tube.spillover, draw=False)
        print(path.name, *(population.n_events for population in result.populations))


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
