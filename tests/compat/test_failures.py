"""Running out of memory or disk is known as such, by the errors that libraries raise for it."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from medqa_finetune.compat.failures import is_disk_full, is_out_of_memory

FULL = Path("/dev/full")


def raised_by_torch() -> BaseException:
    try:
        torch.empty(2**60)
    except RuntimeError as error:
        return error
    raise AssertionError("this machine has room for 2^60 numbers")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("in words that nobody has seen"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_is_known(error: BaseException) -> None:
    assert is_out_of_memory(error)


def test_torch_on_a_cpu_says_it_in_known_words() -> None:
    assert is_out_of_memory(raised_by_torch())


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), OSError(errno.ENOSPC, "No space left on device")])
def test_other_errors_are_no_lack_of_memory(error: BaseException) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), OSError(errno.EDQUOT, "quota")])
def test_the_systems_own_error_is_a_full_disk(error: BaseException) -> None:
    assert is_disk_full(error)


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, which Linux has")
def test_torch_says_a_full_disk_in_known_words(tmp_path: Path) -> None:
    # Through a link: whoever renames a finished file into place would put it there, and not into /dev.
    (tmp_path / "full").symlink_to(FULL)
    with pytest.raises(Exception) as raised:  # noqa: PT011 (of whatever kind)
        torch.save({"a": torch.zeros(2**16)}, tmp_path / "full")
    assert is_disk_full(raised.value)


def test_safetensors_says_a_full_disk_in_known_words() -> None:
    """As safetensors 0.8 says it on a full tmpfs; the fault trials fill one."""
    assert is_disk_full(SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"))


def test_a_missing_file_is_no_full_disk() -> None:
    assert not is_disk_full(FileNotFoundError(errno.ENOENT, "No such file"))


def test_no_library_is_loaded_to_tell() -> None:
    program = (
        "import sys; from medqa_finetune.compat.failures import is_out_of_memory; "
        "assert is_out_of_memory(MemoryError()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
