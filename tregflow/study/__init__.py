"""A study: its file, its manifest, and the tables of a run."""

from tregflow.study.endpoint import (
    EndpointRow,
    FindingRow,
    PopulationRow,
    endpoint_row,
    endpoint_schema,
    finding_row,
    population_rows,
)
from tregflow.study.inference import infer_manifest, list_tubes, tubes_below
from tregflow.study.manifest import (
    ManifestRow,
    duplicate_keys,
    find_manifest,
    read_manifest,
    tube_key,
    tube_name,
    tube_names,
    write_manifest,
)
from tregflow.study.modes import ModeRow, TubeModes, mode_findings
from tregflow.study.studyfile import StudyFile, find_study, load_study
from tregflow.study.tables import percent, table_schema, wilson_interval, write_csv, write_parquet
from tregflow.template.model import TubeRules

__all__ = [
    "EndpointRow",
    "FindingRow",
    "ManifestRow",
    "ModeRow",
    "PopulationRow",
    "StudyFile",
    "TubeModes",
    "TubeRules",
    "duplicate_keys",
    "endpoint_row",
    "endpoint_schema",
    "find_manifest",
    "find_study",
    "finding_row",
    "infer_manifest",
    "list_tubes",
    "load_study",
    "mode_findings",
    "percent",
    "population_rows",
    "read_manifest",
    "table_schema",
    "tube_key",
    "tube_name",
    "tube_names",
    "tubes_below",
    "wilson_interval",
    "write_csv",
    "write_manifest",
    "write_parquet",
]
