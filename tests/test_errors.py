"""The one list of codes, and the text of errors and findings."""

from __future__ import annotations

import ast
import copy
import re
from multiprocessing.reduction import ForkingPickler  # how a worker process sends what it returns

import pytest
from support import ROOT

from tregflow import errors
from tregflow.errors import CODES, FcsError, Finding, TregflowError

CHILDREN = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TregflowError)]
OTHER_TESTS = {p.name: p.read_text(encoding="utf-8") for p in sorted((ROOT / "tests").glob("*.py"))}
del OTHER_TESTS["test_errors.py"]


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CHILDREN)
def test_an_error_says_its_code_what_is_wrong_and_what_to_do(kind: type[TregflowError]) -> None:
    error = kind("FCS_OPEN", "x.fcs: expected a file, found a folder.", file="x.fcs")
    assert str(error) == (
        "FCS_OPEN: x.fcs: expected a file, found a folder. Check the path and that you may read the file."
    )
    assert (error.code, error.message) == ("FCS_OPEN", "x.fcs: expected a file, found a folder.")
    assert error.remedy == CODES["FCS_OPEN"].remedy
    assert error.data == {"file": "x.fcs"}
    assert kind.__doc__


def test_a_better_remedy_replaces_the_general_one() -> None:
    error = TregflowError("FCS_OPEN", "Closed.", remedy="Open it.")
    assert str(error) == "FCS_OPEN: Closed. Open it."


def test_an_unknown_code_cannot_be_used() -> None:
    with pytest.raises(KeyError, match="FCS_OPNE"):
        TregflowError("FCS_OPNE", "Closed.")
    with pytest.raises(KeyError, match="FCS_OPNE"):
        Finding("FCS_OPNE", "info", "Closed.")
    with pytest.raises(KeyError, match="FCS_OPNE"):
        Finding("FCS_OPNE", "info", "Closed.", remedy="Open it.")


def sent(value: object) -> object:
    return ForkingPickler.loads(bytes(ForkingPickler.dumps(value)))


def fail_in_worker() -> None:
    error = FcsError("FCS_TRUNCATED", "x.fcs is cut.", remedy="Copy it.", file="x.fcs", offsets=(1, 2))
    error.add_note("seen in a worker")
    raise error


@pytest.mark.parametrize("via", ["process", "copy"])
def test_an_error_travels_whole(via: str) -> None:
    """A worker process sends its errors to the parent; one that cannot be rebuilt there breaks the whole pool."""
    with pytest.raises(FcsError) as caught:
        fail_in_worker()
    error = sent(caught.value) if via == "process" else copy.copy(caught.value)
    assert type(error) is FcsError
    assert str(error) == str(caught.value)
    assert (error.code, error.message, error.remedy, error.data) == (
        "FCS_TRUNCATED", "x.fcs is cut.", "Copy it.", {"file": "x.fcs", "offsets": (1, 2)},
    )  # fmt: skip
    assert error.__notes__ == ["seen in a worker"]


# --- findings -------------------------------------------------------------------------------------------------------


def test_a_finding_brings_its_remedy() -> None:
    finding = Finding("NUMERATOR_BELOW_LLOD", "review", "7 events in treg.")
    assert finding.remedy == "Report the value with this flag."
    assert Finding("NUMERATOR_BELOW_LLOD", "review", "7 events.", remedy="Do this.").remedy == "Do this."
    assert (finding.tube, finding.population, finding.observed, finding.limit) == ("", "", "", "")
    assert finding == Finding("NUMERATOR_BELOW_LLOD", "review", "7 events in treg.")
    assert sent(finding) == finding


# --- texts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"\xe4", "byte 0xE4 in line 1, column 1"),
        ("a,b\nJ\u00f6rg,".encode() + b"J\xf6rg\n", "byte 0xF6 in line 2, column 7"),
        (b"\xef\xbb\xbfa\r\n\r\nb\x80", "byte 0x80 in line 3, column 2"),
        ("file".encode("utf-16"), "byte 0xFF in line 1, column 1"),
    ],
)
def test_where_a_text_is_not_utf8(data: bytes, place: str) -> None:
    with pytest.raises(UnicodeDecodeError) as caught:
        data.decode("utf-8-sig")
    assert errors.not_utf8(caught.value) == f"not UTF-8 text ({place})"


@pytest.mark.parametrize(
    "code",
    [f"COMPENSATION_{word}" for word in ("MISSING", "PARTIAL", "CHANNELS", "NOT_FINITE", "IDENTITY", "MALFORMED")],
)
def test_no_remedy_sends_to_a_manifest_column_that_the_template_may_refuse(code: str) -> None:
    remedy = CODES[code].remedy
    assert "the CSV" not in remedy
    assert 'where the template allows it (compensation.source or alternatives has "manifest")' in remedy
    assert 'compensation.source or alternatives has "manifest"' in CODES["COMPENSATION_NOT_ALLOWED"].remedy


# --- the list -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
def test_a_code_has_a_meaning_and_a_remedy(code: str) -> None:
    assert re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*", code)
    meaning, remedy = CODES[code].meaning, CODES[code].remedy
    assert meaning.strip() == meaning != ""
    assert not meaning.endswith(".") or meaning.endswith("..."), "a meaning is a phrase, not a sentence"
    assert remedy.strip() == remedy
    assert remedy[:1].isupper()
    assert remedy.endswith(".")
    assert not remedy.endswith("..")


def test_codes_are_used_by_the_package_and_no_others_are() -> None:
    used: set[str] = set()
    raised: set[str] = set()
    for path in (ROOT / "tregflow").rglob("*.py"):
        if path.name == "errors.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                used.add(node.value)
            if isinstance(node, ast.Call) and re.search(r"\b(\w+Error|Finding)$", ast.unparse(node.func)):
                raised |= {a.value for a in node.args[:1] if isinstance(a, ast.Constant) and str(a.value).isupper()}
    assert len(raised) > 50
    assert not raised - set(CODES)
    assert not set(CODES) - used, f"in CODES but used nowhere: {sorted(set(CODES) - used)}"


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_raised_in_a_test(code: str) -> None:
    pattern = re.compile(rf"(?<![A-Z_]){code}(?![A-Z_])")
    assert any(pattern.search(text) for text in OTHER_TESTS.values()), f"no file in tests/ mentions {code}"
