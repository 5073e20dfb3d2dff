"""XML that others wrote, read with everything off that a document could do to its reader.

No DTD, no entities but the five of XML itself, no network, no huge or deep trees, a bounded size, UTF-8 (or an
encoding that spells ASCII as ASCII, so that a DTD cannot hide in it). What is not plain data is refused before a parser
sees it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tregflow.errors import TemplateError

if TYPE_CHECKING:
    from pathlib import Path

    from lxml.etree import _Element

#: Bytes of the largest document that is read: gates are small, a workspace of hundreds of tubes is not.
MAX_DOCUMENT = 32 * 2**20
MAX_WORKSPACE = 256 * 2**20

_DECLARATION = re.compile(rb"\A\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._:-]+)[\"']", re.DOTALL)
_ENCODINGS = {"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "latin-1", "windows-1252", "cp1252"}


def read_xml(path: Path, limit: int) -> bytes:
    """Read a file of at most `limit` bytes.

    Raises
    ------
    TemplateError
        `XML_UNREADABLE` where it cannot be opened, `XML_REFUSED` where it is larger.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise TemplateError("XML_UNREADABLE", f"{path.name} cannot be read: {why}.", file=path.name) from None
    if len(data) > limit:
        raise _refused(path.name, f"it is larger than {limit // 2**20} MB")
    return data


def parse_xml(data: bytes, name: str, limit: int = MAX_DOCUMENT) -> _Element:
    """Parse a document and give its root; comments and processing instructions are left out.

    Raises
    ------
    TemplateError
        `XML_REFUSED`: too large, a DTD or entities, an encoding that could hide one. `XML_SYNTAX`: not well-formed,
        or nested too deeply.
    """
    from lxml import etree  # noqa: PLC0415 - heavy

    if len(data) > limit:
        raise _refused(name, f"it is larger than {limit // 2**20} MB")
    declared = _DECLARATION.match(data.removeprefix(b"\xef\xbb\xbf"))
    if b"\x00" in data or (declared and declared[1].decode("ascii").lower() not in _ENCODINGS):
        raise _refused(name, "it is not written in UTF-8")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise _refused(name, "it has a DTD, which no such document needs and which can make a small file huge")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        return etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        why = str(getattr(error, "msg", None) or error).rstrip(".")
        raise TemplateError("XML_SYNTAX", f"{name} is no XML that can be read: {why}.", file=name) from None


def _refused(name: str, why: str) -> TemplateError:
    return TemplateError("XML_REFUSED", f"{name} is not read: {why}.", file=name)
