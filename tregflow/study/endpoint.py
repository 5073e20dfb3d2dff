"""The tables of a run: one row per planned tube, per population and per finding, each a contract in one model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Annotated, Any, Concatenate, Literal, ParamSpec, Protocol, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from tregflow.errors import Finding, StudyError
from tregflow.study.intervals import combined_interval
from tregflow.study.tables import Count, Number, Percent, TableRow, Text, column, percent, table_schema, wilson_interval

Status = Literal["ok", "review", "not_evaluable", "control"]
Counts = tuple[int, int]
Row = TypeVar("Row", bound=TableRow)
Given = ParamSpec("Given")
Made = TypeVar("Made")

_HASH = r"^[0-9a-f]{64}$"
_CODES = r"^[A-Z][A-Z0-9_]*(;[A-Z][A-Z0-9_]*)*$"


class EndpointRow(TableRow):
    """One planned tube: what was counted, by which template, and whether it can be used.

    The key is unique, but for rows without a value that say TUBE_DUPLICATE_KEY: the manifest lists that file twice.
    """

    key_columns = ("subject_id", "visit", "role", "replicate", "batch_id", "file")

    subject_id: Text = column("", "Subject, as in the manifest; empty for controls that belong to none.")
    visit: Text = column("", "Visit, as in the manifest.")
    role: str = column(
        "",
        "stained, bridge, unstained, fmo:<marker> or single:<marker>.",
        default=...,
        pattern=r"^(stained|bridge|unstained|(fmo|single):.+)$",
    )
    replicate: int = column("", "1 unless the same specimen was stained again.", default=..., ge=1)
    collected_at: Text = column("ISO 8601", "When the specimen was drawn, as written in the manifest.")
    batch_id: Text = column("", "Batch of staining and acquisition.")
    file: str = column("", "FCS file, from the batch folder.", default=..., min_length=1)
    file_sha256: Text = column("", "SHA-256 of the file; empty if it could not be read.", pattern=_HASH)
    template_id: str = column("", "Gating template.", default=..., min_length=1)
    template_version: str = column("", "Its version (SemVer).", default=..., min_length=1)
    template_sha256: str = column("", "SHA-256 of its canonical content.", default=..., pattern=_HASH)
    tregflow_version: str = column("", "Program version.", default=..., min_length=1)
    n_events: Count = column("events", "Events in the file; empty for a control tube.")
    numerator: str = column("", "Population counted in n_numerator.", default=..., min_length=1)
    denominator: str = column("", "Population counted in n_denominator.", default=..., min_length=1)
    n_numerator: Count = column("events", "Events in the numerator; 0 is a true zero. Stays for a tube not evaluable.")
    n_denominator: Count = column("events", "Events in the denominator. Stays for a tube that is not evaluable.")
    endpoint_pct: Percent = column("%", "100 n_numerator / n_denominator; empty unless status is ok or review.")
    endpoint_pct_count_low: Percent = column("%", "Lower bound of the 95 % Wilson score interval: counting only.")
    endpoint_pct_count_high: Percent = column("%", "Upper bound of the 95 % Wilson score interval: counting only.")
    endpoint_pct_gate_low: Percent = column(
        "%", "Lower value with the deciding cuts moved by the larger of their stated uncertainty and 1.96 SE."
    )
    endpoint_pct_gate_high: Percent = column("%", "Upper value with the deciding cuts moved likewise.")
    endpoint_pct_comp_low: Percent = column("%", "Lower value with the compensation moved by its uncertainty.")
    endpoint_pct_comp_high: Percent = column("%", "Upper value with the compensation moved by its uncertainty.")
    endpoint_pct_combined_low: Percent = column(
        "%", "Lower bound of counting and gates together, and of compensation where it is known (MOVER)."
    )
    endpoint_pct_combined_high: Percent = column("%", "Upper bound of the same.")
    treg_pct_of_lymphocytes: Percent = column(
        "%", "endpoint_pct where numerator is treg and denominator is lymphocytes; empty otherwise."
    )
    n_cd4: Count = column("events", "CD4+ T cells, from the same tree.")
    treg_pct_of_cd4: Percent = column("%", "100 n_numerator / n_cd4 where numerator is treg; empty otherwise.")
    foxp3_mfi_treg: Number = column("scale value", "Median FOXP3 of the numerator, compensated, linear scale.")
    cd25_mfi_treg: Number = column("scale value", "Median CD25 of the numerator, compensated, linear scale.")
    status: Status = column(
        "", "ok; review (a person should look); not_evaluable (no number, see finding_codes); control.", default=...
    )
    finding_codes: Text = column("", "Codes of errors and findings, sorted, with ';' between them.", pattern=_CODES)

    @property
    def has_endpoint(self) -> bool:
        """Whether the tube gives a number."""
        return self.status in {"ok", "review"}

    def unique_keys(self) -> tuple[Hashable, ...]:
        """Return the key, and for a tube with a number also who it is: two numbers for one specimen are none.

        A tube without a number that the manifest lists twice has two rows that say so, and nothing else to tell them.
        """
        if not self.has_endpoint and "TUBE_DUPLICATE_KEY" in (self.finding_codes or "").split(";"):
            return ()
        usable = (self.subject_id, self.visit, self.role, self.replicate, None if self.visit else self.file)
        return (self.sort_key(), *([usable] if self.has_endpoint else []))

    def percentages(self) -> dict[str, float | None]:
        """Return the columns that are made from counts."""
        k, n = self.n_numerator, self.n_denominator
        value = percent(k, n) if self.has_endpoint else None
        low, high = (None, None) if value is None or k is None or n is None else wilson_interval(k, n)
        treg = value is not None and self.numerator == "treg"
        return {
            "endpoint_pct": value,
            "endpoint_pct_count_low": low,
            "endpoint_pct_count_high": high,
            "treg_pct_of_lymphocytes": value if treg and self.denominator == "lymphocytes" else None,
            "treg_pct_of_cd4": percent(k, self.n_cd4) if treg else None,
        }

    @model_validator(mode="after")
    def _status_fits(self) -> Self:
        counts = (self.n_events, self.n_numerator, self.n_denominator, self.n_cd4)
        if self.has_endpoint and self.endpoint_pct is None:
            raise ValueError(f"status {self.status} needs n_numerator and a denominator above 0")
        if self.has_endpoint and None in (self.n_events, self.file_sha256):
            raise ValueError(f"status {self.status} needs n_events and file_sha256")
        if self.status == "control" and self.role == "stained":
            raise ValueError("a stained tube is no control")
        if self.has_endpoint and self.role not in {"stained", "bridge"}:
            raise ValueError(f"a tube with role {self.role} has no endpoint: its status is control or not_evaluable")
        if self.n_events is not None and max(self.n_denominator or 0, self.n_cd4 or 0) > self.n_events:
            raise ValueError("a population has more events than the file")
        if self.role == "stained" and None in (self.subject_id, self.visit):
            raise ValueError("a stained tube needs subject_id and visit")
        if self.status in {"review", "not_evaluable"} and self.finding_codes is None:
            raise ValueError(f"status {self.status} needs a reason in finding_codes")
        if self.status == "control" and any(value is not None for value in counts):
            raise ValueError("a control tube has no counts in this table")
        for name, value in self:
            derived = name.startswith(("endpoint_pct", "treg_pct")) or name.endswith("_mfi_treg")
            if derived and value is not None and not self.has_endpoint:
                raise ValueError(f"{name} must be empty where status is {self.status}")
        for kind in ("gate", "comp", "combined"):
            low, high = getattr(self, f"endpoint_pct_{kind}_low"), getattr(self, f"endpoint_pct_{kind}_high")
            if (low is None) != (high is None) or (low is not None and low > high):
                raise ValueError(f"endpoint_pct_{kind}_low {low} and _high {high} are not an interval")
        return self


class PopulationRow(TableRow):
    """One population of one tube; behind the fixed columns stand ``mfi_<MARKER>``, in the template's order."""

    key_columns = ("tube", "population")

    tube: str = column("", "Name of the tube, as of its files.", default=..., min_length=1)
    subject_id: Text = column("", "Subject, as in the manifest.")
    visit: Text = column("", "Visit, as in the manifest.")
    role: str = column("", "Role of the tube.", default=..., min_length=1)
    replicate: int = column("", "Replicate, from 1.", default=..., ge=1)
    batch_id: Text = column("", "Batch of staining and acquisition.")
    file: str = column("", "FCS file, from the batch folder.", default=..., min_length=1)
    template: str = column(
        "", "Gating template, id@version, and its status if not released.", default=..., min_length=1
    )
    population: str = column("", "Population.", default=..., min_length=1)
    parent: Text = column("", "The population it was gated in; empty if in all events.")
    denominator: Text = column("", "The template's denominator; empty if this population is not inside it.")
    n_events: int = column("events", "Events in the population.", default=..., ge=0)
    n_parent: int = column("events", "Events in its parent.", default=..., ge=0)
    n_denominator: Count = column("events", "Events in the denominator, if this population is inside it.")
    pct_of_parent: Percent = column("%", "100 n_events / n_parent; empty if the parent is empty.")
    pct_of_denominator: Percent = column("%", "100 n_events / n_denominator; empty if there is none.")
    mfi: dict[str, Number] = column(
        "scale value", "Median by marker, compensated, linear scale; empty for an empty population.", default={}
    )

    def percentages(self) -> dict[str, float | None]:
        """Return the columns that are made from counts."""
        return {
            "pct_of_parent": percent(self.n_events, self.n_parent),
            "pct_of_denominator": percent(self.n_events, self.n_denominator),
        }


class FindingRow(TableRow):
    """One finding or error of one tube, and what to do about it; an empty tube is the whole batch."""

    key_columns = ("tube", "code", "population", "message", "observed", "limit", "severity")
    repeats_allowed = True  # the same doubt twice is one row
    free_text = ("observed", "limit", "message", "remedy")

    tube: Text = column("", "Name of the tube, as of its files; empty for a finding about the batch.")
    subject_id: Text = column("", "Subject, as in the manifest.")
    visit: Text = column("", "Visit, as in the manifest.")
    role: Text = column("", "Role of the tube.")
    replicate: Annotated[int | None, Field(ge=1)] = column("", "Replicate, from 1.")
    file: Text = column("", "FCS file, from the batch folder.")
    code: str = column("", "Stable code.", default=..., pattern=r"^[A-Z][A-Z0-9_]*$")
    severity: Literal["info", "review", "fail"] = column(
        "", "info; review (a person should look); fail (no number).", default=...
    )
    population: Text = column("", "Population it is about.")
    observed: Text = column("", "What was found, with its unit.")
    limit: Text = column("", "What was expected, with its unit.")
    message: str = column("", "What is wrong and where.", default=...)
    remedy: Text = column("", "What to do.")


def endpoint_schema() -> dict[str, Any]:
    """Return the JSON Schema of a row of ``endpoint.csv``: order, types, units, ranges and descriptions."""
    return table_schema(EndpointRow)


# --- rows from counts -------------------------------------------------------------------------------------------------


class Tube(Protocol):
    """Who a tube is: a manifest row, or what a record keeps of one."""

    @property
    def file(self) -> str:
        """File, from the batch folder."""

    @property
    def subject_id(self) -> str:
        """Subject, or an empty text."""

    @property
    def visit(self) -> str:
        """Visit, or an empty text."""

    @property
    def role(self) -> str:
        """Role."""

    @property
    def replicate(self) -> int:
        """Replicate, from 1."""

    @property
    def collected_at(self) -> str:
        """ISO 8601, or an empty text."""

    @property
    def batch_id(self) -> str:
        """Batch, or an empty text."""


class TemplateUsed(Protocol):
    """Which template a tube was gated with."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def version(self) -> str:
        """SemVer."""

    @property
    def sha256(self) -> str:
        """Hash of its content."""

    @property
    def numerator(self) -> str:
        """Population."""

    @property
    def denominator(self) -> str:
        """Population."""


class CountedPopulation(Protocol):
    """A population and its count; `parent` is None for all events of the tube."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def parent(self) -> str | None:
        """Id of its parent."""

    @property
    def n_events(self) -> int:
        """Its count."""

    @property
    def mfi(self) -> Mapping[str, float | None]:
        """Median by marker, scale values."""


def _naming_tube(build: Callable[Concatenate[Tube, Given], Made]) -> Callable[Concatenate[Tube, Given], Made]:
    """Put the name of the tube before what is wrong with its row, so that its record can be found."""

    @wraps(build)
    def named(tube: Tube, /, *args: Given.args, **values: Given.kwargs) -> Made:
        try:
            return build(tube, *args, **values)
        except StudyError as error:
            raise StudyError(error.code, f"{getattr(tube, 'tube', tube.file)}: {error.message}") from error

    return named


def _moved_intervals(
    k: int | None, n: int | None, moved: Mapping[str, tuple[Counts, Counts] | None]
) -> dict[str, float]:
    """The interval of each moved count, and all of them with counting together."""
    known = {}
    for name, pairs in moved.items():
        bounds = sorted(value for pair in pairs or () if (value := percent(*pair)) is not None)
        if len(bounds) == 2:
            known[name] = (bounds[0], bounds[1])
    estimate = percent(k, n)
    if known and estimate is not None and k is not None and n is not None:
        known["combined"] = combined_interval(estimate, [wilson_interval(k, n), *known.values()])
    return {
        f"endpoint_pct_{name}_{end}": bound
        for name, interval in known.items()
        for end, bound in zip(("low", "high"), interval, strict=True)
    }


@_naming_tube
def endpoint_row(
    tube: Tube,
    template: TemplateUsed,
    *,
    tregflow_version: str,
    status: Status,
    finding_codes: Iterable[str] = (),
    file_sha256: str = "",
    n_events: int | None = None,
    n_numerator: int | None = None,
    n_denominator: int | None = None,
    n_cd4: int | None = None,
    gate: tuple[Counts, Counts] | None = None,
    compensation: tuple[Counts, Counts] | None = None,
    foxp3_mfi_treg: float | None = None,
    cd25_mfi_treg: float | None = None,
) -> EndpointRow:
    """Return the row of a tube from counts; no percentage is passed in.

    Parameters
    ----------
    status
        A tube that is ``not_evaluable`` keeps its counts and loses every value made from them; a ``control`` tube loses
        its counts too.
    gate, compensation
        (numerator, denominator) counts with the deciding cuts, or the compensation, moved one way and the other.
    foxp3_mfi_treg, cd25_mfi_treg
        Medians of the numerator in compensated scale values.

    Raises
    ------
    StudyError
        ``TABLE_INVALID`` if the counts are impossible or do not fit the status.
    """
    usable = status in {"ok", "review"}
    counts: dict[str, Any] = {
        "n_events": n_events, "n_numerator": n_numerator, "n_denominator": n_denominator, "n_cd4": n_cd4
    }  # fmt: skip
    values: dict[str, Any] = {"foxp3_mfi_treg": foxp3_mfi_treg, "cd25_mfi_treg": cd25_mfi_treg}
    values |= _moved_intervals(n_numerator, n_denominator, {"gate": gate, "comp": compensation})
    row = {
        **_identity(tube, "subject_id", "visit", "role", "replicate", "collected_at", "batch_id", "file"),
        "file_sha256": file_sha256,
        "template_id": template.id,
        "template_version": template.version,
        "template_sha256": template.sha256,
        "tregflow_version": tregflow_version,
        "numerator": template.numerator,
        "denominator": template.denominator,
        **({} if status == "control" else counts),
        **(values if usable else {}),
        "status": status,
        "finding_codes": ";".join(sorted(set(finding_codes))),
    }
    return _valid(EndpointRow, row)


@_naming_tube
def population_rows(
    tube: Tube,
    name: str,
    populations: Sequence[CountedPopulation],
    *,
    n_events: int,
    denominator: str,
    template: str,
) -> tuple[PopulationRow, ...]:
    """Return the rows of a tube's populations, in the order given.

    Percent of the denominator is given for the denominator itself and for the populations inside it; elsewhere it would
    not be a percentage of anything.

    Parameters
    ----------
    name
        The tube's name, as of its files (`tube_names`).
    n_events
        All events of the tube: the parent of a population that has none.
    template
        `id@version`, and ` DRAFT` or another status behind it where it is not released.
    """
    by_id = {population.id: population for population in populations}
    rows = []
    for population in populations:
        inside = denominator in _lineage(population, by_id)
        parent = by_id[population.parent].n_events if population.parent else n_events
        row = {
            "tube": name,
            **_identity(tube, "subject_id", "visit", "role", "replicate", "batch_id", "file"),
            "template": template,
            "population": population.id,
            "parent": population.parent,
            "denominator": denominator if inside else None,
            "n_events": population.n_events,
            "n_parent": parent,
            "n_denominator": by_id[denominator].n_events if inside else None,
            "mfi": dict(population.mfi),
        }
        rows.append(_valid(PopulationRow, row, f"{population.id}: "))
    return tuple(rows)


def finding_row(finding: Finding, tube: Tube | None = None, name: str = "") -> FindingRow:
    """Return the row of a finding about a tube called `name`, or about the batch."""
    parts = ("code", "severity", "population", "observed", "limit", "message", "remedy")
    row = {part: getattr(finding, part) for part in parts}
    if tube is not None:
        row |= {"tube": name, **_identity(tube, "subject_id", "visit", "role", "replicate", "file")}
    return _valid(FindingRow, row, f"{name}, {finding.code}: " if name else f"{finding.code}: ")


def _identity(tube: Tube, *names: str) -> dict[str, Any]:
    return {name: getattr(tube, name) for name in names}


def _lineage(population: CountedPopulation, by_id: Mapping[str, CountedPopulation]) -> list[str]:
    lineage = [population.id]
    while (parent := by_id[lineage[-1]].parent) is not None:
        if parent not in by_id or parent in lineage:
            message = f"population {lineage[-1]} lies in {parent}; expected another population of the tube."
            raise StudyError("TABLE_INVALID", message)
        lineage.append(parent)
    return lineage


def _valid(model: type[Row], values: Mapping[str, Any], place: str = "") -> Row:
    """Build a row with its percentages from its counts."""
    try:
        draft = model.model_construct(**values)
        return model.model_validate({**values, **draft.percentages()})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, details['loc'])) or 'row'}: {details['msg']}" for details in error.errors()
        )
        raise StudyError("TABLE_INVALID", f"{place}{problems}.") from error
