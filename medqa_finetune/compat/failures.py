"""Errors of other packages: their messages, and out-of-memory and full disks where only the wording shows them.

If a wording changes, the error is still shown unchanged. Nothing is imported here, since a machine without free memory
or disk may be unable to import.
"""

import errno
import sys

# torch's allocators (CPU, CUDA), cuBLAS and cuDNN.
MEMORY_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
# torch and safetensors wrap the system's error in their own classes, and torch's messages do not name the disk.
DISK_SIGNS = (
    "No space left",
    "Disk quota",
    "PytorchStreamWriter",
    "inline_container.cc",
    "iostream error",
    "os error 28",
)
SHOWN_CHARACTERS = 300


def words_of(error: BaseException) -> str:
    """Return the message of another package's error as one line without a full stop.

    For an error without a message, the name of its class.
    """
    words = " ".join(str(error).split())[:SHOWN_CHARACTERS]
    return words.rstrip(" .:") or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means too little GPU or main memory."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return _says(error, MEMORY_SIGNS)


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error means a full disk or quota."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _says(error, DISK_SIGNS)


def _says(error: BaseException, signs: tuple[str, ...]) -> bool:
    said = str(error).lower()
    return any(sign.lower() in said for sign in signs)
