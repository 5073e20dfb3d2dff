"""FCS files made byte by byte, sharing no code with the reader or writer they test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ORDERS = {"little": "1,2,3,4", "big": "4,3,2,1"}


def parameters(*bits: int | str, ranges: Sequence[int | str] | None = None, **more: str) -> dict[str, str]:
    """`$Pn` keywords of columns P1, P2, ...; `more` gives further ones: P1E="4,0"."""
    pairs: dict[str, str] = {"$PAR": str(len(bits))}
    for n, width in enumerate(bits, 1):
        limit = ranges[n - 1] if ranges is not None else (1 << int(width) if width != "*" else 1000)
        pairs |= {f"$P{n}N": f"P{n}", f"$P{n}B": str(width), f"$P{n}R": str(limit), f"$P{n}E": "0,0"}
    return pairs | {f"${key}": value for key, value in more.items()}


def fcs_bytes(
    data: bytes,
    keywords: Mapping[str, str],
    *,
    tot: int | None,
    datatype: str = "F",
    byteord: str = "1,2,3,4",
    version: str = "FCS3.1",
    header: tuple[int, int] | None = (0, 0),
    written: tuple[int, int] | None = (0, 0),
    drop: Sequence[str] = (),
    text_end: int = 0,
    gap: bytes = b"",
    tail: bytes = b"",
    extra: bytes = b"",
    delimiter: str = "|",
) -> bytes:
    """One data set. `header` and `written` are added to the true first and last byte of DATA (None: left blank).

    `text_end` is added to the true end of TEXT, `gap` lies between TEXT and DATA, `tail` behind DATA, `extra` is put
    at the end of TEXT as it is; `drop` leaves keywords out.
    """
    pairs = {"$DATATYPE": datatype, "$BYTEORD": byteord, "$MODE": "L", "$NEXTDATA": "0"} | dict(keywords)
    if tot is not None:
        pairs["$TOT"] = str(tot)
    if written is not None:
        pairs |= {"$BEGINDATA": "0" * 12, "$ENDDATA": "0" * 12}
    for key in drop:
        del pairs[key]

    def text() -> bytes:
        parts = [part for pair in pairs.items() for part in pair]
        return (delimiter + delimiter.join(parts) + delimiter).encode() + extra

    first = 58 + len(text()) + len(gap)
    last = first + len(data) - 1
    if written is not None:
        pairs |= {"$BEGINDATA": f"{first + written[0]:012d}", "$ENDDATA": f"{last + written[1]:012d}"}
    stated = (0, 0) if header is None else (first + header[0], last + header[1])
    head = f"{version}    {58:8d}{57 + len(text()) + text_end:8d}{stated[0]:8d}{stated[1]:8d}{0:8d}{0:8d}".encode()
    return head + text() + gap + data + tail


def pack_words(rows: Sequence[Sequence[int]], bits: Sequence[int], order: str | Sequence[int]) -> bytes:
    """Whole bytes; `order` is little, big, or which byte (1 = least significant) is written first, second, ..."""
    out = bytearray()
    for row in rows:
        for value, width in zip(row, bits, strict=True):
            little = value.to_bytes(width // 8, "little")
            if isinstance(order, str):
                out += little if order == "little" else little[::-1]
            else:
                out += bytes(little[number - 1] for number in order)
    return bytes(out)


def pack_bits(rows: Sequence[Sequence[int]], bits: Sequence[int], order: str) -> bytes:
    """Bits without gaps, as one long number."""
    number = position = 0
    for row in rows:
        for value, width in zip(row, bits, strict=True):
            number = number | value << position if order == "little" else number << width | value
            position += width
    n_bytes = (position + 7) // 8
    if order == "big":
        number <<= 8 * n_bytes - position
    return number.to_bytes(n_bytes, "little" if order == "little" else "big")
