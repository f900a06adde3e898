"""The collector is paused for imports alone, and goes through nothing while a process ends."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from medqa_finetune.runtime import ALLOCATOR_VARIABLES, collect_no_more, collector_paused, settle_before_torch
from tests.commands import ROOT


@pytest.mark.parametrize("enabled", [True, False])
def test_it_is_as_it_was_afterwards(enabled: bool) -> None:
    was_enabled = gc.isenabled()
    try:
        gc.enable() if enabled else gc.disable()
        with collector_paused():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
        with pytest.raises(ImportError):
            _fail()
        assert gc.isenabled() == enabled
    finally:
        gc.enable() if was_enabled else gc.disable()


def _fail() -> None:
    with collector_paused():
        raise ImportError


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="torch has it on Linux alone")
@pytest.mark.parametrize("own", [None, *ALLOCATOR_VARIABLES])
def test_segments_of_gpu_memory_grow_in_this_process_and_its_children(
    own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ALLOCATOR_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if own is not None:
        monkeypatch.setenv(own, "max_split_size_mb:128")
    settle_before_torch()
    code = f"import os; print([os.environ.get(name) for name in {ALLOCATOR_VARIABLES!r}])"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    found = "max_split_size_mb:128" if own else "expandable_segments:True"
    assert seen.count(found) == 1
    assert seen.count("None") == 1


def test_nothing_that_is_there_is_looked_at_any_more() -> None:
    class Knot:
        pass

    knot = Knot()
    knot.itself = knot  # type: ignore[attr-defined]
    try:
        collect_no_more()
        assert gc.get_freeze_count() > 1000
        assert not any(each is knot for each in gc.get_objects())
    finally:
        gc.unfreeze()


def test_a_command_ends_so(tmp_path: Path) -> None:
    program = (
        "import atexit, gc, sys\n"
        "sys.argv = ['summarize', '--help']\n"
        "from medqa_finetune.summarize import main\n"
        # Registered first, so called last.
        "atexit.register(lambda: print('frozen', gc.get_freeze_count() > 1000))\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("frozen True\n")
