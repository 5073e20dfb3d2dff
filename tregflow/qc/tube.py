"""Checks of one gated tube: pure functions of counts and the template's limits, giving findings.

No check here can fail or hold back a tube because of its numerator: that would drop responders or non-responders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tregflow.errors import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tregflow.template.model import Interval, Template


def check_tube(counts: Mapping[str, int], n_events: int, template: Template) -> tuple[Finding, ...]:
    """All checks of a tube. `counts` are events by population; `n_events` the tube's own."""
    return (
        *check_denominator(counts[template.endpoint.denominator], template),
        *check_numerator(counts[template.endpoint.numerator], template),
        *check_fractions(counts, n_events, template),
    )


def check_denominator(n: int, template: Template) -> Iterator[Finding]:
    """Too few events to make a percentage of: a failure below the template's minimum, a doubt below the second."""
    name = template.endpoint.denominator
    least, enough = template.endpoint.min_denominator_events, template.qc.denominator_events_review
    if n < least:
        yield Finding(
            "DENOMINATOR_TOO_FEW",
            "fail",
            f"{n} events in {name}; a percentage needs at least {least}.",
            population=name,
            observed=f"{n} events",
            limit=f">= {least} events",
        )
    elif n < enough:
        yield Finding(
            "DENOMINATOR_LOW",
            "review",
            f"{n} events in {name}; at least {enough} are wanted.",
            population=name,
            observed=f"{n} events",
            limit=f">= {enough} events",
        )


def check_numerator(n: int, template: Template) -> Iterator[Finding]:
    """A numerator below the limits of detection or quantification keeps its value and is flagged."""
    endpoint, name = template.endpoint, template.endpoint.numerator
    limits: tuple[tuple[str, Severity, int, str], ...] = (
        ("NUMERATOR_BELOW_LLOD", "review", endpoint.llod_events, "the lower limit of detection"),
        ("NUMERATOR_BELOW_LLOQ", "review", endpoint.lloq_events, "the lower limit of quantification"),
        ("NUMERATOR_LOW", "info", template.qc.numerator_events_review, "the number wanted for a precise percentage"),
    )
    for code, severity, limit, words in limits:
        if n < limit:
            yield Finding(
                code,
                severity,
                f"{n} events in {name}, below {words} ({limit}).",
                population=name,
                observed=f"{n} events",
                limit=f">= {limit} events",
            )
            return


def check_fractions(counts: Mapping[str, int], n_events: int, template: Template) -> Iterator[Finding]:
    """Percent of parent of each limited population against the template's expectation."""
    for name, limit in template.qc.pct_of_parent.items():
        gate = template.gate(name)
        n_parent = n_events if gate.parent is None else counts[gate.parent]
        if n_parent == 0:
            continue
        pct = 100 * counts[name] / n_parent
        parent = gate.parent or "all events"
        if limit.fail is not None and not _inside(pct, limit.fail):
            yield _fraction(name, parent, pct, limit.fail, "POPULATION_IMPLAUSIBLE", "fail")
        elif limit.review is not None and not _inside(pct, limit.review):
            yield _fraction(name, parent, pct, limit.review, "POPULATION_UNEXPECTED", "review")


def _inside(pct: float, interval: Interval) -> bool:
    return interval[0] <= pct <= interval[1]


def _fraction(name: str, parent: str, pct: float, interval: Interval, code: str, severity: Severity) -> Finding:
    return Finding(
        code,
        severity,
        f"{name} is {pct:.2f} % of {parent}; expected {interval[0]:g} to {interval[1]:g} %.",
        population=name,
        observed=f"{pct:.2f} % of {parent}",
        limit=f"{interval[0]:g} to {interval[1]:g} %",
    )
