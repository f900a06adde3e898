"""Which GPUs there are, by what the user allows and what the driver lists, and how cells share them out."""

import threading

import pynvml
import pytest

from medqa_finetune.errors import ConfigError
from medqa_finetune.launch import gpus
from medqa_finetune.launch.gpus import VARIABLE, Gpu, Slot, make_slots, visible_gpus
from medqa_finetune.ranks import STARTED_VARIABLE
from tests.faulty import only_fault

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


class Driver:
    """Stands for NVML: lists GPUs by UUID, each with the UUIDs of its MIG parts by place."""

    def __init__(self, **gpus: dict[int, str]) -> None:
        self.gpus = gpus

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(VARIABLE, raising=False)
        replaced = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetCount": lambda: len(self.gpus),
            "nvmlDeviceGetHandleByIndex": list(self.gpus).__getitem__,
            "nvmlDeviceGetUUID": lambda device: device,
            "nvmlDeviceGetMaxMigDeviceCount": self.count_parts,
            "nvmlDeviceGetMigDeviceHandleByIndex": self.part,
        }
        for name, function in replaced.items():
            monkeypatch.setattr(pynvml, name, function)

    def count_parts(self, device: str) -> int:
        if not self.gpus[device]:
            raise pynvml.NVMLError_NotSupported
        return 7

    def part(self, device: str, place: int) -> str:
        if place not in self.gpus[device]:
            raise pynvml.NVMLError_NotFound
        return self.gpus[device][place]


def test_without_a_selection_the_driver_lists_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(a={}, b={}).install(monkeypatch)
    assert visible_gpus() == [Gpu("a", "0"), Gpu("b", "1")]


def test_mig_parts_replace_their_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(a={0: "MIG-1", 2: "MIG-2"}, b={}).install(monkeypatch)
    assert visible_gpus() == [Gpu("MIG-1", "0:0"), Gpu("MIG-2", "0:2"), Gpu("b", "1")]


@pytest.mark.parametrize(
    "error", [pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded, pynvml.NVMLError_Unknown]
)
def test_missing_or_failing_driver_is_no_gpu(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    Driver(a={}).install(monkeypatch)
    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert visible_gpus() == []


def test_driver_that_hangs_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(a={}).install(monkeypatch)
    monkeypatch.setattr(gpus, "ANSWER_SECONDS", 0.2)
    released = threading.Event()
    monkeypatch.setattr(pynvml, "nvmlInit", released.wait)
    try:
        assert visible_gpus() == []
    finally:
        released.set()


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
    # Each GPU of a cell has a process that trains on it.
    several = {STARTED_VARIABLE: str(per_cell)} if per_cell > 1 else {}
    assert [slot.environment() for slot in slots] == [{VARIABLE: share, **several} for share in shares]
    assert [slot.label for slot in slots] == shares


def test_more_gpus_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        make_slots(FOUR, 5, None)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("out-of-range", "hydra.launcher.gpus_per_cell", 5)


@pytest.mark.parametrize(("max_parallel", "number"), [(None, 1), (1, 1), (3, 3)])
def test_without_gpus_one_slot_is_the_default(max_parallel: int | None, number: int) -> None:
    slots = make_slots([], 2, max_parallel)
    assert slots == [Slot(None)] * number
    assert slots[0].environment() == {}


def test_cells_that_want_no_gpu_see_none() -> None:
    assert [slot.environment() for slot in make_slots(FOUR, 0, 2)] == [{VARIABLE: ""}] * 2
    assert make_slots(FOUR, 0, None)[0].label == ""
