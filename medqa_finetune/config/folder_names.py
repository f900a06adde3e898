"""Texts as parts of folder names: without characters that file systems or shells treat specially, and not too long."""

import hashlib
import re

from medqa_finetune.config.checks import FOLDER_NAME_BYTES

# Separates the settings in the name of a run or an evaluation.
SEPARATOR = "__"
# A shortened name ends in a digest; a character that does not fit whole (up to four bytes) is left out.
DIGEST, CHARACTER_BYTES = re.compile(r"[0-9a-f]{8}"), 4


def setting_in_name(key: str, value: object) -> str:
    """Return a setting as it stands in the name of a run: `train.epochs=3.0`."""
    return f"{key}={plain('+'.join(map(str, value)) if isinstance(value, list) else str(value))}"


def plain(text: str) -> str:
    """Replace characters that file systems or shells treat specially; a digest distinguishes equal results."""
    found = "".join("-" if c in "/\\:*?\"<>|' $&;()[]{}`!#~" or not c.isprintable() else c for c in text)
    # Windows drops a final dot, and `.old-` marks folders that were moved aside.
    found = found.rstrip(".").replace(".old-", "-old-")
    return found if found == text else f"{found[:40]}-{digest_of(text)[:6]}"


def shortened(name: str) -> str:
    """Cut a name to the UTF-8 bytes that file systems allow; a digest distinguishes names that become equal."""
    encoded = name.encode("utf-8")
    if len(encoded) <= FOLDER_NAME_BYTES:
        return name
    return encoded[: FOLDER_NAME_BYTES - 10].decode("utf-8", errors="ignore") + SEPARATOR + digest_of(name)[:8]


def is_shortened(name: str) -> bool:
    """Return whether the name of a run or an evaluation was too long, so that a digest is in place of its end."""
    is_long = len(name.encode("utf-8", "replace")) >= FOLDER_NAME_BYTES - CHARACTER_BYTES
    return is_long and DIGEST.fullmatch(name.rpartition(SEPARATOR)[2]) is not None


def digest_of(text: str) -> str:
    """Return the sha256 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
