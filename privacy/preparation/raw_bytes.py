"""The bytes of a CSV file, looked at as a whole before any of them is parsed.

One pass finds what no row tells: the encoding, NUL bytes, quotes that are not where fields begin and end, the end of the header.
Every later reading runs through the same digest, so that it is known to be of the same bytes.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from privacy.preparation.raw_table import RawIdentity, changed, refused
from protocols.errors import Problem

BLOCK_BYTES = 4 << 20
_MAX_HEADER_BYTES = 16 << 20
_QUOTE, _COMMA, _NEWLINE, _RETURN = b'",\n\r'
_EMPTY_LINE = re.compile(rb"\n\r?\n")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_EXPORT = "save the file as CSV in UTF-8"


@dataclass(frozen=True)
class Layout:
    """Where the parts of a CSV file lie, and whether its quotes stand only around whole fields.

    Attributes:
        identity: of all bytes.
        head: the header, without a byte order mark.
        header_end: where the first row begins.
        end: where the last line that is not empty ends; empty lines after it are left out.
        is_plain: quotes stand only around whole fields, every line ends with a line feed, and none is empty: such a file can be
            cut at line feeds outside quotes, and two parsers read the same in it.
        has_broken_lines: a field holds a line break, so that rows and lines count apart.
    """

    identity: RawIdentity
    head: bytes
    header_end: int
    end: int
    is_plain: bool
    has_broken_lines: bool


def inspect(source: BinaryIO, file: str, *, block_bytes: int = BLOCK_BYTES) -> Layout:
    """Looks at all bytes of a file.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): empty, NUL bytes, or not UTF-8, with the line and a guess what it is.
    """
    source.seek(0)
    digest, decoder = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")()
    quotes = _Quotes()
    position = lines = end = returns = 0
    empty_line: int | None = None
    begin, last, head = 0, b"", b""
    while block := source.read(block_bytes):
        if position == 0:
            _refuse_utf16(block, file)
            begin = len(codecs.BOM_UTF8) if block.startswith(codecs.BOM_UTF8) else 0
        digest.update(block)
        if b"\0" in block:
            line = lines + block.count(b"\n", 0, block.index(0)) + 1
            raise refused(file, [Problem(f"line {line}", "holds a NUL byte; the file is damaged or no text", "export it again")])
        _decode(decoder, block, lines=lines, file=file)
        returns += block.count(b"\r") - block.count(b"\r\n") - (last.endswith(b"\r") and block.startswith(b"\n"))
        if quotes.header_end is None:
            head += block
        quotes.see(np.frombuffer(block, np.uint8), begin if position == 0 else 0, position)
        if quotes.header_end is None and len(head) > _MAX_HEADER_BYTES:
            raise refused(file, [Problem("line 1", f"is longer than {_MAX_HEADER_BYTES} bytes", "add the header line")])
        if empty_line is None:
            found = _EMPTY_LINE.search(last + block)
            empty_line = None if found is None else position - len(last) + found.start()
        content = len(block.rstrip(b"\r\n"))
        if content:
            end = position + content
        lines += block.count(b"\n")
        position += len(block)
        last = block[-2:]
    _finish_decoding(decoder, lines=lines, file=file)
    if end <= begin:
        raise refused(file, [Problem("", "the file is empty", "check that the right file was named")])
    header_end = position if quotes.header_end is None else quotes.header_end
    identity = RawIdentity(digest.hexdigest(), position)
    is_plain = quotes.are_plain and returns == 0 and (empty_line is None or empty_line >= end)
    return Layout(identity, head[begin:header_end], header_end, max(end, header_end), is_plain, quotes.has_broken_lines)


class SameBytes(io.RawIOBase):
    """Reads a part of a file that was inspected; at the end, checks that the whole file is still what it was."""

    def __init__(self, source: BinaryIO, layout: Layout, file: str) -> None:
        self._source, self._layout, self._file = source, layout, file
        self._digest = hashlib.sha256()
        self._position = 0
        source.seek(0)
        self._take(layout.header_end)

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed: a private buffer type
        """Reads rows; nothing after the last one."""
        view = memoryview(buffer)
        data = self._take(min(len(view), self._layout.end - self._position))
        view[: len(data)] = data
        return len(data)

    def check(self) -> None:
        """Reads what is left.

        Raises:
            ConfideError: FILE_CHANGED (the owner's fault).
        """
        most = self._layout.identity.num_bytes + 1  # a file that grows without end is not followed
        while self._position < most and self._take(min(BLOCK_BYTES, most - self._position)):
            continue
        if RawIdentity(self._digest.hexdigest(), self._position) != self._layout.identity:
            raise changed(self._file)

    def _take(self, size: int) -> bytes:
        data = self._source.read(size) if size > 0 else b""
        self._digest.update(data)
        self._position += len(data)
        return data


def plain_blocks(source: SameBytes, block_bytes: int) -> Iterator[bytes]:
    """Yields the rows of a plain file in blocks of whole rows, of about so many bytes."""
    carried = b""
    while True:
        block = source.read(block_bytes)
        if not block:
            break
        data = carried + block
        cut = _last_row_end(data)
        carried = data[cut:]
        if cut:
            yield data[:cut]
    if carried:
        yield carried


def _last_row_end(data: bytes) -> int:
    """Where the last whole row ends; `data` begins with a row."""
    if b'"' not in data:
        return data.rfind(b"\n") + 1
    array = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(array == _QUOTE)
    breaks = np.flatnonzero(array == _NEWLINE)
    outside = breaks[np.searchsorted(quotes, breaks) % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0


class _Quotes:
    """Follows quotes through a file: an odd number of them before a byte means that it lies inside a quoted field."""

    def __init__(self) -> None:
        self.header_end: int | None = None
        self.has_broken_lines = False
        self._sound = True
        self._count = 0
        self._before = _NEWLINE  # a field begins at the beginning
        self._ended = False  # the last byte was a quote that closes a field, or is the first of two

    @property
    def are_plain(self) -> bool:
        """Whether, at the end of the file, all quotes stood around whole fields."""
        return self._sound and self._count % 2 == 0

    def see(self, block: NDArray[np.uint8], begin: int, position: int) -> None:
        block = block[begin:]
        if not len(block):
            return
        quotes = np.flatnonzero(block == _QUOTE)
        if self._ended and block[0] not in (_QUOTE, _COMMA, _NEWLINE, _RETURN):
            self._sound = False
        if len(quotes):
            self._check(block, quotes)
        if self.header_end is None or len(quotes) or self._count % 2:
            breaks = np.flatnonzero((block == _NEWLINE) | (block == _RETURN))
            inside = (self._count + np.searchsorted(quotes, breaks)) % 2 == 1
            self.has_broken_lines = self.has_broken_lines or bool(inside.any())
            outside = breaks[~inside & (block[breaks] == _NEWLINE)]
            if self.header_end is None and len(outside):
                self.header_end = position + begin + int(outside[0]) + 1
        self._count += len(quotes)
        self._before = int(block[-1])
        self._ended = bool(block[-1] == _QUOTE and self._count % 2 == 0)

    def _check(self, block: NDArray[np.uint8], quotes: NDArray[np.int64]) -> None:
        opening = (self._count + np.arange(len(quotes))) % 2 == 0
        before = np.where(quotes > 0, block[quotes - 1], self._before)
        after = block[np.minimum(quotes + 1, len(block) - 1)]
        after = np.where(quotes + 1 < len(block), after, _NEWLINE)  # what follows the last byte is seen with the next block
        edges = [_QUOTE, _COMMA, _NEWLINE, _RETURN]
        self._sound = bool(self._sound and np.isin(before[opening], edges).all() and np.isin(after[~opening], edges).all())


def _refuse_utf16(block: bytes, file: str) -> None:
    sample = block[:1024]
    if block.startswith(_UTF16) or (len(sample) >= 4 and max(sample[::2].count(0), sample[1::2].count(0)) * 4 > len(sample)):
        raise refused(file, [Problem("line 1", "is not UTF-8 text; the file seems to be UTF-16", _EXPORT)])


def _decode(decoder: codecs.IncrementalDecoder, block: bytes, *, lines: int, file: str) -> None:
    pending = decoder.getstate()[0]
    if not pending and block.isascii():
        return
    try:
        decoder.decode(block)
    except UnicodeDecodeError as error:
        seen = (pending + block).count(b"\n", 0, error.start)
        guess = _guess(error.object[error.start : error.start + 1])
        raise refused(file, [Problem(f"line {lines + seen + 1}", f"is not UTF-8 text{guess}", _EXPORT)]) from None


def _finish_decoding(decoder: codecs.IncrementalDecoder, *, lines: int, file: str) -> None:
    if decoder.getstate()[0]:
        raise refused(
            file, [Problem(f"line {lines + 1}", "ends within a UTF-8 character; the file is cut off", "export it again")]
        )


def _guess(byte: bytes) -> str:
    # Bytes 0x80 to 0x9f are letters and quotes in Windows-1252, and control characters in Latin-1.
    kind = "Windows-1252" if 0x80 <= byte[0] <= 0x9F else "Latin-1 (ISO 8859-1) or Windows-1252"
    return f"; it seems to be {kind}"
