"""Token ids with the places where the loss is taken: one item, and many of them in flat arrays."""

import json
import logging
import struct
import zipfile
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from medqa_finetune.data.prepare import locked
from medqa_finetune.record.files import replacing, sha256_of_text, sweep

IGNORED = -100  # torch's cross-entropy leaves this label out

Span = tuple[int, int]
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoded pair, dialogue, or block of running text.

    Attributes:
        input_ids: Prompt, answer and end token, earlier turns in front of them; at most max_length.
        answer_start: Index of the first token of the last answer, at least 1; that answer goes on to the end.
        cut: Whether something was cut to fit max_length.
        earlier: Where the answers of earlier turns begin, and where they end behind their end token.
    """

    input_ids: list[int]
    answer_start: int
    cut: bool
    earlier: tuple[Span, ...] = ()

    @property
    def labels(self) -> list[int]:
        """The ids where the loss is taken, `IGNORED` elsewhere; as long as `input_ids`."""
        labels = [IGNORED] * self.answer_start + self.input_ids[self.answer_start :]
        for begin, end in self.earlier:
            labels[begin:end] = self.input_ids[begin:end]
        return labels

    @property
    def answer_tokens(self) -> int:
        """Number of tokens that the loss is taken on."""
        return len(self.input_ids) - self.answer_start + sum(end - begin for begin, end in self.earlier)


class EncodedSet(Sequence[dict[str, list[int]]]):
    """Encoded pairs in flat arrays, a few bytes per token however many pairs there are.

    Attributes:
        cut: Number of pairs cut at max_length.
        tokens: Number of tokens of all pairs.
    """

    def __init__(self, encoded: Iterable[Encoded]) -> None:
        ids, ends, starts, cut = array("i"), array("q"), array("i"), 0
        earlier = array("i")
        for number, item in enumerate(encoded):
            ids.extend(item.input_ids)
            ends.append(len(ids))
            starts.append(item.answer_start)
            cut += item.cut
            for span in item.earlier:
                earlier.extend((number, *span))
        self._ids, self._ends = np.frombuffer(ids, np.int32), np.frombuffer(ends, np.int64)
        self._starts = np.frombuffer(starts, np.int32)
        # Rows: the pair, where an earlier answer of it begins, and where it ends. Most corpora have none.
        self._earlier = np.ascontiguousarray(np.frombuffer(earlier, np.int32).reshape(-1, 3).T)
        self.cut = cut

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "EncodedSet":
        """Return the set that `arrays()` was taken of."""
        fresh = cls(())
        fresh._ids, fresh._ends, fresh._starts = arrays["ids"], arrays["ends"], arrays["starts"]
        fresh._earlier = arrays.get("earlier", fresh._earlier)
        fresh.cut = int(arrays["cut"])
        return fresh

    def arrays(self) -> Arrays:
        """Return what makes up the set.

        Returns:
            `ids` of all pairs, where each pair `ends`, `starts` of last answers, and `cut`; with dialogues in it, also
            `earlier`, of shape (3, earlier answers): number of the pair, begin, end.
        """
        arrays: Arrays = {"ids": self._ids, "ends": self._ends, "starts": self._starts, "cut": np.asarray(self.cut)}
        return arrays | ({"earlier": self._earlier} if self._earlier.size else {})

    @property
    def tokens(self) -> int:
        """Number of tokens of all pairs."""
        return len(self._ids)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: Any) -> Any:
        """Return `{"input_ids", "labels"}` of one pair; -1 is the last one, as in a list."""
        item = self.item(index)
        return {"input_ids": item.input_ids, "labels": item.labels}

    def item(self, index: int) -> Encoded:
        """Return one pair as it was put in, but for whether it was cut, which only the set knows."""
        begin, end = self._bounds(index)
        return Encoded(self._ids[begin:end].tolist(), int(self._starts[index]), cut=False, earlier=self._spans(index))

    def length(self, index: int) -> int:
        """Return the number of tokens of one pair."""
        begin, end = self._bounds(index)
        return end - begin

    def prefix(self, n: int) -> "EncodedSet":
        """Return the first `n` pairs, without copying; none of them may be cut, or all count as uncut."""
        spans = self._earlier[:, : np.searchsorted(self._earlier[0], n)]
        end = int(self._ends[n - 1]) if n else 0
        arrays: Arrays = {"ids": self._ids[:end], "ends": self._ends[:n], "starts": self._starts[:n], "earlier": spans}
        return EncodedSet.of(arrays | {"cut": np.asarray(0)})

    def _bounds(self, index: int) -> Span:
        end = int(self._ends[index])
        is_first = index in (0, -len(self))
        return (0 if is_first else int(self._ends[index - 1])), end

    def _spans(self, index: int) -> tuple[Span, ...]:
        if not self._earlier.size:
            return ()
        place = range(len(self))[index]
        first, last = np.searchsorted(self._earlier[0], (place, place + 1))
        return tuple((int(begin), int(end)) for begin, end in self._earlier[1:, first:last].T)


logger = logging.getLogger(__name__)

# What reading a file can raise that is no such set, or is damaged.
UNREADABLE = (OSError, EOFError, ValueError, TypeError, KeyError, RuntimeError, MemoryError, ArithmeticError,
              zipfile.BadZipFile, zlib.error, struct.error)  # fmt: skip


class Hashed(Protocol):
    """A set of pairs, or a text: known by its content."""

    @property
    def sha256(self) -> str:
        """Over all of it."""


Content_contra = TypeVar("Content_contra", bound=Hashed, contravariant=True)


class SetEncoder(Protocol[Content_contra]):
    """What turns such a set into token ids."""

    @property
    def fingerprint(self) -> str | None:
        """A hash of all that decides the ids; None where there is no such hash."""

    def encode(self, content: Content_contra, /) -> Iterable[Encoded]:
        """Yield the set's items encoded, in order."""

    def tell_cut(self, cut: int, n: int) -> None:
        """Say how many of `n` items were cut, if any were."""


def encode_once(encoder: SetEncoder[Content_contra], pairs: Content_contra, cache: Path) -> EncodedSet:
    """Return pairs encoded: from the cache where that has been done before, else to it.

    Two processes that want the same set tokenize it once: the second waits for the first.

    Args:
        encoder: Encodes them; a tokenizer without a fingerprint encodes anew each time.
        pairs: The pairs, known by the sha256 over them.
        cache: Folder that keeps encoded sets; made if it is missing.
    """
    if encoder.fingerprint is None:
        return EncodedSet(encoder.encode(pairs))
    key = sha256_of_text(json.dumps([pairs.sha256, encoder.fingerprint]))
    path = cache / f"encoded-{key[:16]}.npz"
    with locked(cache / f".{path.name}.lock"):
        sweep(cache, path.name)
        found = read_encoded(path, key)
        if found is not None:
            encoder.tell_cut(found.cut, len(found))
            return found
        fresh = EncodedSet(encoder.encode(pairs))
        with replacing(path) as file:
            np.savez(file, allow_pickle=False, key=np.asarray(key), **fresh.arrays())
        return fresh


def read_encoded(path: Path, key: str) -> EncodedSet | None:
    """Return the set in a file; None where there is none, or not this one, or not as it was written (zip's CRC)."""
    if not path.exists():
        return None
    try:
        # Opened here, since numpy leaves the file open where it is no zip.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if str(arrays["key"]) == key:
                return EncodedSet.of(arrays)
            fault = "of another set"
    except UNREADABLE as error:
        fault = type(error).__name__
    logger.warning("%s is damaged (%s); its pairs are tokenized again.", path, fault)
    return None
