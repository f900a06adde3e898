"""Which GPUs there are, by what the user allows and what `nvidia-smi` says, and how cells share them out."""

import time
from pathlib import Path

import pytest

from medqa_finetune.errors import ConfigError
from medqa_finetune.launch import gpus
from medqa_finetune.launch.gpus import VARIABLE, Gpu, Slot, installed_gpus, make_slots, visible_gpus
from tests.faulty import only_fault

TWO = """GPU 0: NVIDIA GeForce RTX 3090 (UUID: GPU-5a1c9f3e-0000-1111-2222-333344445555)
GPU 1: NVIDIA GeForce RTX 3090 (UUID: GPU-6b2d0a4f-0000-1111-2222-333344445555)
"""
# The first is cut into three parts, the second is whole.
PARTS = """GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-aaaa)
  MIG 3g.40gb     Device  0: (UUID: MIG-1111)
  MIG 2g.20gb     Device  1: (UUID: MIG-2222)
  MIG 1g.10gb+me  Device  2: (UUID: MIG-GPU-aaaa/3/0)
GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-bbbb)
"""
FOUR = [Gpu(str(number), str(number)) for number in range(4)]


@pytest.mark.parametrize(
    ("allowed", "ids"),
    [
        ("0,1", ["0", "1"]),
        (" 3 , 1 ", ["3", "1"]),
        ("1,1,0", ["1", "0"]),
        ("GPU-5a1c9f3e-0000-1111-2222-333344445555", ["GPU-5a1c9f3e-0000-1111-2222-333344445555"]),
        ("MIG-GPU-aaaa/3/0,MIG-2222", ["MIG-GPU-aaaa/3/0", "MIG-2222"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,-1,1", ["0"]),
    ],
)
def test_what_the_user_allows_is_what_there_is(allowed: str, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, allowed)
    assert [gpu.id for gpu in visible_gpus()] == ids


def test_a_long_name_is_shown_short() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "GPU-5a1c9f3e-0000-1111-2222-333344445555")
        assert [gpu.label for gpu in visible_gpus()] == ["GPU-5a1c9f3…"]


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `nvidia-smi` of ours, found first; without content it does not exist."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "nvidia-smi"


def write_driver(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def test_without_a_word_of_the_user_the_driver_is_asked(driver: Path) -> None:
    write_driver(driver, f'[ "$*" = -L ] && cat <<E\n{TWO}E')
    assert [gpu.label for gpu in visible_gpus()] == ["0", "1"]


def test_no_driver_is_no_gpu(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(driver.parent))
    assert visible_gpus() == []


@pytest.mark.parametrize(
    "script", ["echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9",
               "echo 'No devices were found'", "printf '\\377\\376'", "kill -9 $$"]
)  # fmt: skip
def test_a_driver_that_fails_is_no_gpu(driver: Path, script: str) -> None:
    write_driver(driver, script)
    assert visible_gpus() == []


def test_a_driver_that_hangs_is_no_gpu(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "ANSWER_SECONDS", 0.3)
    write_driver(driver, "exec sleep 60")
    started = time.monotonic()
    assert visible_gpus() == []
    assert time.monotonic() - started < 30


def test_parts_take_the_place_of_the_gpu_they_are_cut_from() -> None:
    assert installed_gpus(PARTS) == [
        Gpu("MIG-1111", "0:0"), Gpu("MIG-2222", "0:1"), Gpu("MIG-GPU-aaaa/3/0", "0:2"), Gpu("GPU-bbbb", "1"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "listing", ["", "No devices found.", "  MIG 1g.5gb  Device 0: (UUID: MIG-1)", "GPU 0: no UUID"]
)
def test_a_listing_of_nothing_is_nothing(listing: str) -> None:
    assert installed_gpus(listing) == []


@pytest.mark.parametrize(
    ("per_cell", "max_parallel", "shares"),
    [
        (1, None, ["0", "1", "2", "3"]),
        (1, 2, ["0", "1"]),
        (1, 9, ["0", "1", "2", "3"]),
        (2, None, ["0,1", "2,3"]),
        (3, None, ["0,1,2"]),
        (4, None, ["0,1,2,3"]),
    ],
)
def test_every_slot_has_gpus_of_its_own(per_cell: int, max_parallel: int | None, shares: list[str]) -> None:
    slots = make_slots(FOUR, per_cell, max_parallel)
    assert [slot.environment() for slot in slots] == [{VARIABLE: share} for share in shares]
    assert [slot.label for slot in slots] == shares


def test_more_gpus_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        make_slots(FOUR, 5, None)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("out-of-range", "hydra.launcher.gpus_per_cell", 5)


@pytest.mark.parametrize(("max_parallel", "number"), [(None, 1), (1, 1), (3, 3)])
def test_without_gpus_one_cell_runs_at_a_time_unless_more_are_asked_for(max_parallel: int | None, number: int) -> None:
    slots = make_slots([], 2, max_parallel)
    assert slots == [Slot(None)] * number
    assert slots[0].environment() == {}


def test_cells_that_want_no_gpu_see_none() -> None:
    assert [slot.environment() for slot in make_slots(FOUR, 0, 2)] == [{VARIABLE: ""}] * 2
    assert make_slots(FOUR, 0, None)[0].label == ""
