"""Decodes files to lines of text: decompression, encodings, with a line feed as the only line end."""

import codecs
import gzip
import logging
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import zstandard

from medqa_finetune.errors import DataError, Fault

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
# One zstd block unpacks to at most 128 KiB from as few as 4 bytes, so the piece fed at once bounds the memory used.
ZSTD_PIECE_BYTES = 1 << 13
# A longer row indicates a file without line ends, or a quote that is never closed.
MAX_ROW_CHARS = 1 << 24
# A text with this many non-ASCII characters that decode as UTF-8 is UTF-8, even if the configuration says otherwise.
SURELY_UTF8_CHARS = 20
NUL_SHARE = 0.2


def read_lines(path: Path, encoding: str) -> Iterator[str]:
    """Yield a text file's lines, each with its line feed; only the last may lack one.

    Only a line feed ends a line, so U+2028, U+0085 and a lone carriage return inside a text stay where they are.

    Raises:
        DataError: the file cannot be read, decompressed or decoded, or a line is over 16 Mi characters.
    """
    parts: list[str] = []
    length = lines = 0
    for text in read_text(path, encoding):
        head, *rest = text.split("\n")
        for following in rest:
            yield "".join([*parts, head, "\n"])
            lines += 1
            parts, length, head = [], 0, following
        parts.append(head)
        length += len(head)
        if length > MAX_ROW_CHARS:
            raise DataError(
                Fault(
                    "row-too-long",
                    f"over {MAX_ROW_CHARS:,} characters without a line end",
                    file=str(path),
                    line_number=lines + 1,
                    hint="Check that it is a text file.",
                )
            )
    if length:
        yield "".join(parts)


def read_text(path: Path, encoding: str) -> Iterator[str]:
    """Yield a text file's content in pieces, without a byte-order mark at its front.

    A file whose byte-order mark names UTF-16 or UTF-32, as Excel's Unicode text, is read so where UTF-8 is asked for.

    Raises:
        DataError: the file cannot be read, or is in another encoding; with the byte, the line and a guess.
    """
    decoder = _decoder(path, encoding)
    if (marked := _marked(path, encoding)) is not None:
        encoding, decoder = marked, _decoder(path, marked)
    first = b""
    offset = newlines = 0
    for chunk in _ended(read_chunks(path)):
        if offset == 0 and chunk:
            first = chunk
            _refuse_other_encoding(path, encoding, chunk)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeError as error:
            raise DataError(_decoding_fault(path, encoding, error, (offset, newlines, chunk, first))) from None
        if offset == 0:
            text = text.removeprefix("\ufeff")
        offset += len(chunk)
        newlines += text.count("\n")
        if text:
            yield text


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes in pieces of about a mebibyte, decompressed when its name ends in `.gz` or `.zst`.

    Raises:
        DataError: the file cannot be read, or its compressed data is damaged or cut short.
    """
    try:
        with path.open("rb") as file:
            if path.suffix == ".zst":
                yield from _zstd_chunks(path, iter(lambda: file.read(ZSTD_PIECE_BYTES), b""))
            elif path.suffix == ".gz":
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield from iter(lambda: unpacked.read(CHUNK_BYTES), b"")
            else:
                yield from iter(lambda: file.read(CHUNK_BYTES), b"")
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise DataError(_unreadable(path, f"cannot be read: {getattr(error, 'strerror', None) or error}")) from error


def _zstd_chunks(path: Path, pieces: Iterator[bytes]) -> Iterator[bytes]:
    # Not stream_reader, which treats a truncated file as complete.
    unpacker, started = zstandard.ZstdDecompressor().decompressobj(), False
    for piece in pieces:
        data = piece
        while data:
            if unpacker.eof:
                unpacker = zstandard.ZstdDecompressor().decompressobj()
            out, started = unpacker.decompress(data), True
            data = unpacker.unused_data if unpacker.eof else b""
            if out:
                yield out
    if started and not unpacker.eof:
        raise DataError(_unreadable(path, "the compressed data is cut short"))


def _unreadable(path: Path, problem: str) -> Fault:
    return Fault("not-readable", problem, key="corpus.path", file=str(path), hint="Fetch or copy the file again.")


def guess_encoding(sample: bytes) -> str | None:
    """Return the most likely encoding of a piece of text, or None if none fits."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if sample.startswith(mark):
            return name
    if sample.count(0) > NUL_SHARE * len(sample):
        return "utf-16-be" if sample[0::2].count(0) > sample[1::2].count(0) else "utf-16-le"
    for name in ("utf-8", "gb18030", "big5", "shift_jis"):
        try:
            codecs.getincrementaldecoder(name)().decode(sample)  # not final: the sample may end inside a character
        except UnicodeDecodeError:
            continue
        return name
    return None


def _marked(path: Path, encoding: str) -> str | None:
    """Return the encoding that a file's byte-order mark names, where it is another than the UTF-8 asked for."""
    if not codecs.lookup(encoding).name.startswith("utf-8"):
        return None
    beginning = next(read_chunks(path), b"")[:4]
    marks = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    if not beginning.startswith(marks):
        return None
    marked = guess_encoding(beginning)
    _say_marked(path, marked)
    return marked


@cache
def _say_marked(path: Path, encoding: str | None) -> None:
    logger.info("%s is read as %s, by its byte-order mark (corpus.encoding=%s)", path, encoding, encoding)


def _ended(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the chunks that are not empty, then an empty one."""
    yield from filter(None, chunks)
    yield b""


def _decoder(path: Path, encoding: str) -> codecs.IncrementalDecoder:
    try:
        # `encode` knows text encodings only; the codecs registry would also hand out base64 and zip.
        "".encode(encoding)
        return codecs.getincrementaldecoder(encoding)()
    except (LookupError, UnicodeError, ValueError):
        raise DataError(
            Fault(
                "unknown-encoding",
                "not a text encoding that Python knows",
                key="corpus.encoding",
                got=encoding,
                file=str(path),
                hint="Give corpus.encoding=utf-8, gb18030 or utf-16.",
            )
        ) from None


def _refuse_other_encoding(path: Path, encoding: str, sample: bytes) -> None:
    """Refuse an encoding that decodes the text without error, but to wrong characters."""
    name = codecs.lookup(encoding).name
    if name.startswith(("utf-16", "utf-32")) or sample.count(0) <= NUL_SHARE * len(sample):
        if name.startswith("utf-8") or not _surely_utf8(sample):
            return
        guess = "utf-8"
    else:
        guess = guess_encoding(sample) or "utf-16"
    problem = f"the text is not {encoding} but, by its bytes, {guess}"
    raise DataError(_wrong_encoding(path, 1, encoding, problem, guess))


def _wrong_encoding(path: Path, line: int | None, encoding: str, problem: str, guess: str | None) -> Fault:
    """Return the fault that a file is in another encoding; `allowed` is the one that its bytes fit, if known."""
    return Fault(
        "wrong-encoding",
        problem,
        key="corpus.encoding",
        got=encoding,
        file=str(path),
        line_number=line,
        allowed=(guess,) if guess else (),
        hint=f"Give corpus.encoding={guess}." if guess else "Check that it is a text file.",
    )


def _surely_utf8(sample: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return sum(character > "\x7f" for character in text[:CHUNK_BYTES]) >= SURELY_UTF8_CHARS


def _decoding_fault(path: Path, encoding: str, error: UnicodeError, state: tuple[int, int, bytes, bytes]) -> Fault:
    """Return where decoding failed. `state`: bytes and line feeds before the chunk, the chunk, the first chunk."""
    offset, newlines, chunk, first = state
    if not isinstance(error, UnicodeDecodeError):
        return _wrong_encoding(path, None, encoding, f"the text is not {encoding}: {error}", None)
    # The decoder prepends bytes that it kept from the chunk before.
    position = offset + len(chunk) - len(error.object) + error.start
    line = newlines + error.object[: error.start].count(b"\n") + 1
    problem = f"byte {position:,} is not {encoding}"
    before = first if offset > 0 else error.object[: error.start]
    if codecs.lookup(encoding).name == "utf-8" and _surely_utf8(before):
        return Fault(
            "damaged-text",
            f"{problem}, though the text before it is: the file is damaged or mixed there",
            key="corpus.encoding",
            got=encoding,
            file=str(path),
            line_number=line,
            hint="Repair that line.",
        )
    guess = guess_encoding(first if offset == 0 else chunk)
    return _wrong_encoding(path, line, encoding, problem, guess if guess != encoding else None)
