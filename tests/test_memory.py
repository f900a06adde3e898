import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from medqa_finetune import memory
from medqa_finetune.memory import in_units, peak_resident_bytes, physical_bytes


def test_bytes_are_shown_in_the_unit_that_fits() -> None:
    assert [in_units(count) for count in (0, 3 * 2**19, 2**30, 5 * 2**31)] == [
        "0.0 MiB",
        "1.5 MiB",
        "1.0 GiB",
        "10.0 GiB",
    ]


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_in_bytes_where_there_is_no_proc(
    monkeypatch: pytest.MonkeyPatch, platform: str, unit: int
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(memory, "Path", lambda name: Path("/no/such/file"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    assert before <= peak_resident_bytes() <= 1.1 * before


@pytest.mark.parametrize(("limit", "counts"), [("max", False), (str(2**70), False), (str(2**28), True)])
def test_a_container_has_what_it_is_limited_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, counts: bool
) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n", encoding="ascii")
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", (tmp_path / "none", tmp_path / "memory.max"))
    assert physical_bytes() == (2**28 if counts else psutil.virtual_memory().total)


@pytest.mark.slow  # fills a GiB
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux hands the peak of a parent on")
def test_peak_memory_is_of_this_process_and_not_of_the_one_that_started_it() -> None:
    script = (
        "from medqa_finetune.memory import peak_resident_bytes\n"
        "held = bytearray(b'x' * 200 * 2**20); del held\n"
        "print(peak_resident_bytes())"
    )
    here = bytearray(b"x" * 2**30)
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    # The 200 MiB, but not the GiB held here.
    assert 200 * 2**20 < int(output) < len(here)
