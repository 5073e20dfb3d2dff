"""Per-visit Treg percentages from FCS files, gated against a versioned template.

>>> import tregflow as tf
>>> template = tf.load_template("treg-foxp3-pbmc@0.2.0")
>>> result = tf.gate("sample_fcs/S01_W12_stained.fcs", template)
>>> result["treg"].n_events, result["lymphocytes"].n_events
(403, 24081)
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tregflow.version import __version__

if TYPE_CHECKING:
    from tregflow.batch.single import gate
    from tregflow.errors import Finding, TregflowError
    from tregflow.fcs import read_fcs, write_fcs
    from tregflow.record import read_record
    from tregflow.template.diff import diff_templates
    from tregflow.template.registry import list_templates, load_template
    from tregflow.template.writing import save_template

# Loaded when first used, so that `import tregflow` needs nothing but the standard library.
_HOMES = {
    "Finding": "tregflow.errors",
    "TregflowError": "tregflow.errors",
    "diff_templates": "tregflow.template.diff",
    "gate": "tregflow.batch.single",
    "list_templates": "tregflow.template.registry",
    "load_template": "tregflow.template.registry",
    "read_fcs": "tregflow.fcs",
    "read_record": "tregflow.record",
    "save_template": "tregflow.template.writing",
    "write_fcs": "tregflow.fcs",
}

__all__ = [
    "Finding",
    "TregflowError",
    "__version__",
    "diff_templates",
    "gate",
    "list_templates",
    "load_template",
    "read_fcs",
    "read_record",
    "save_template",
    "write_fcs",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Find a public name in its room on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tregflow' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
