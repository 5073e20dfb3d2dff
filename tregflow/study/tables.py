"""What all tables of a run have in common: a model per row, a JSON Schema, CSV and Parquet, percentages from counts."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Hashable, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, ClassVar, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tregflow.atomic import write_atomic
from tregflow.errors import StudyError
from tregflow.study.cells import csv_bytes, guard

SCHEMA_VERSION = 1
MFI_PREFIX = "mfi_"


# --- counting ---------------------------------------------------------------------------------------------------------


def wilson_interval(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of k events out of n, in percent (0 to 100), without continuity correction.

    It holds counting error only: neither gating nor staining nor biology.

    Raises
    ------
    StudyError
        ``TABLE_INVALID`` unless ``0 <= k <= n``, ``n > 0`` and ``0 < level < 1``.

    Notes
    -----
    With p = k / n and z the (1 + level) / 2 quantile of the normal distribution, the bounds are
    ``(p + z**2 / 2n -+ z sqrt(p (1 - p) / n + z**2 / 4n**2)) / (1 + z**2 / n)``.

    References
    ----------
    Wilson EB (1927), J Am Stat Assoc 22:209-212, doi:10.1080/01621459.1927.10502953; method 3 of Newcombe RG (1998),
    Stat Med 17:857-872.

    Examples
    --------
    >>> [round(bound, 2) for bound in wilson_interval(81, 263)]
    [25.53, 36.62]
    """
    if not (0 <= k <= n and n > 0 and 0 < level < 1):
        raise StudyError("TABLE_INVALID", f"no interval for {k} of {n} events at level {level}; expected 0 <= k <= n.")
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = k + z * z / 2
    half = z * math.sqrt(k * (n - k) / n + z * z / 4)
    low = 0.0 if k == 0 else 100 * (centre - half) / (n + z * z)  # exact at the ends, where rounding would show
    high = 100.0 if k == n else 100 * (centre + half) / (n + z * z)
    return low, high


def percent(k: int | None, n: int | None) -> float | None:
    """Return ``100 k / n``, or None where a count is missing or n is 0; ``TABLE_INVALID`` if k is more than n."""
    if k is None or n is None:
        return None
    if not 0 <= k <= n:
        raise StudyError("TABLE_INVALID", f"{k} of {n} events is not a part; expected 0 <= part <= whole.")
    return 100 * k / n if n else None


# --- rows -------------------------------------------------------------------------------------------------------


def _empty_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value else value


def column(unit: str, description: str, *, default: Any = None, **limits: Any) -> Any:
    """Declare a column; with ``default=...`` it may not be empty."""
    return Field(default=default, description=description, json_schema_extra={"unit": unit}, **limits)


Text = Annotated[str | None, BeforeValidator(_empty_is_none)]
Count = Annotated[int | None, Field(ge=0)]
Percent = Annotated[float | None, Field(ge=0, le=100)]
Number = float | None


class TableRow(BaseModel):
    """A row of a table: the fields are the columns, in order; None is an empty cell."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    key_columns: ClassVar[tuple[str, ...]]
    repeats_allowed: ClassVar[bool] = False
    free_text: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Names of the fixed columns in order."""
        return tuple(name for name in cls.model_fields if name != "mfi")

    def sort_key(self) -> tuple[tuple[bool, str | int], ...]:
        """Return the key as something that sorts, empty values first."""
        values = (getattr(self, name) for name in self.key_columns)
        return tuple((value is not None, "" if value is None else value) for value in values)

    def unique_keys(self) -> tuple[Hashable, ...]:
        """Return what no other row of the table may have too."""
        return (self.sort_key(),)

    def recomputed(self) -> Self:
        """Return the row with every percentage made from its counts."""
        return self.model_copy(update=self.percentages())

    def percentages(self) -> dict[str, float | None]:
        """Return the columns that are made from counts."""
        return {}

    @model_validator(mode="after")
    def _percentages_from_counts(self) -> Self:
        for name, value in self.percentages().items():
            if getattr(self, name) != value:
                raise ValueError(f"{name} is {getattr(self, name)}; its counts give {value}")
        return self


def table_schema(model: type[TableRow]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a row of a table; every column is there, an empty cell is null."""
    schema = model.model_json_schema()
    for column in schema["properties"].values():
        column.pop("title", None)
        column.pop("default", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "version": SCHEMA_VERSION,
        **schema,
        "key": list(model.key_columns),
        "required": list(schema["properties"]),
    }


# --- writing ----------------------------------------------------------------------------------------------------------


def write_csv(rows: Sequence[TableRow], path: Path, *, model: type[TableRow] | None = None) -> None:
    r"""Write rows of one model as CSV: sorted by key, percentages recomputed, ``\n``, UTF-8, atomically.

    An empty cell is missing; integers are integers, floats are written in full (``repr``). Free texts that a
    spreadsheet would run as a formula get an apostrophe before them; identifiers are exact, because the manifest
    refuses such identifiers.

    Parameters
    ----------
    model
        The rows' model, needed where there may be none: a table without rows still has its header.

    Raises
    ------
    StudyError
        ``TABLE_INVALID`` if two rows have one key, or the rows are of several models.
    """
    model, ordered = _ordered(rows, model)
    markers = _markers(ordered)
    records = [
        [
            *(_text(getattr(row, name), free=name in model.free_text) for name in model.columns()),
            *(_text(_mfi(row).get(marker), free=False) for marker in markers),
        ]
        for row in ordered
    ]
    write_atomic(path, csv_bytes([*model.columns(), *(MFI_PREFIX + marker for marker in markers)], records))


def write_parquet(rows: Sequence[TableRow], path: Path, *, model: type[TableRow] | None = None) -> None:
    """Write the same table as `write_csv` as Parquet: typed, integers nullable, unit and description in the fields.

    The bytes depend on the rows and on pyarrow's version only.

    Raises
    ------
    StudyError
        ``TABLE_INVALID``, as `write_csv`.
    """
    import pyarrow as pa  # noqa: PLC0415 - only this table needs it
    import pyarrow.json  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    model, ordered = _ordered(rows, model)
    types: dict[str, Any] = {"integer": pa.int64(), "number": pa.float64(), "string": pa.string()}
    markers = _markers(ordered)
    fields = [
        pa.field(name, types[_kind(about)], metadata={"unit": about["unit"], "description": about["description"]})
        for name, about in table_schema(model)["properties"].items()
        if name != "mfi"
    ]
    fields += [pa.field(MFI_PREFIX + marker, pa.float64(), metadata={"unit": "scale value"}) for marker in markers]
    schema = pa.schema(fields)
    if not ordered:
        table = schema.empty_table()
    else:
        # by way of JSON, because pyarrow imports pandas, a third of a second, to look at a Python list
        lines = [
            json.dumps(
                {name: getattr(row, name) for name in model.columns()}
                | {MFI_PREFIX + marker: _mfi(row).get(marker) for marker in markers}
            )
            for row in ordered
        ]
        options = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
        parsed = pa.json.read_json(io.BytesIO("\n".join(lines).encode()), parse_options=options)
        table = parsed.combine_chunks().select(schema.names).cast(schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_atomic(path, buffer.getvalue())


def _kind(described: dict[str, Any]) -> str:
    """Return the JSON type of a column apart from null."""
    options = described.get("anyOf", [described])
    kinds = (str(option.get("type", "string")) for option in options)
    return next(kind for kind in kinds if kind != "null")


def _ordered(rows: Sequence[TableRow], model: type[TableRow] | None) -> tuple[type[TableRow], list[TableRow]]:
    models = {type(row) for row in rows} | ({model} if model else set())
    if len(models) != 1:
        names = ", ".join(sorted(each.__name__ for each in models)) or "none"
        raise StudyError("TABLE_INVALID", f"expected rows of one model, found {names}.")
    only = models.pop()
    ordered = sorted(dict.fromkeys(rows) if only.repeats_allowed else rows, key=lambda row: row.sort_key())
    seen: set[Hashable] = set()
    for row in ordered:
        if not seen.isdisjoint(row.unique_keys()):
            key = ", ".join(f"{name} {getattr(row, name)}" for name in only.key_columns)
            raise StudyError("TABLE_INVALID", f"more than one {only.__name__} for the key of ({key}).")
        seen.update(row.unique_keys())
    return only, [row.recomputed() for row in ordered]


def _mfi(row: TableRow) -> dict[str, float | None]:
    return cast("dict[str, float | None]", getattr(row, "mfi", {}))


def _markers(rows: Sequence[TableRow]) -> list[str]:
    """Return the markers of all rows' MFI columns, first seen first: a tube may lack an optional marker."""
    return list(dict.fromkeys(marker for row in rows for marker in _mfi(row)))


def _text(value: object, *, free: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(float(value))
    return guard(str(value)) if free else str(value)
