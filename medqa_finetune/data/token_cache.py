"""Encoded sets on disk, so that pairs are tokenized once for all runs that train on them alike."""

import json
import logging
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from medqa_finetune.data.prepare import locked
from medqa_finetune.data.token_set import Encoded, EncodedSet
from medqa_finetune.record.files import replacing, sha256_of_text, sweep

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
