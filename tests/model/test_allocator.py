import os
import subprocess
import sys

import pytest

# Frees and asks again for 24 MiB, forty times, and prints how many pages the system had to hand out anew.
TRIAL = """
import resource, torch
from medqa_finetune.runtime import keep_freed_memory
keep_freed_memory()
torch.ones(6 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(6 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 24 * 2**20 // 4096


def pages_handed_out(**environment: str) -> int:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", TRIAL], env=clean | environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_freed_memory_is_used_again() -> None:
    assert pages_handed_out() < 20 * PAGES


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_a_setting_of_the_users_own_is_left_alone() -> None:
    assert pages_handed_out(MALLOC_MMAP_THRESHOLD_="65536") > 30 * PAGES
