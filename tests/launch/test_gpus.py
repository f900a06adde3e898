"""Which GPUs there are, by what the user allows and what the driver lists, and how cells share them out."""

import subprocess
import sys
import threading
import uuid

import pynvml
import pytest

from medqa_finetune.errors import ConfigError
from medqa_finetune.launch import gpus
from medqa_finetune.launch.gpus import VARIABLE, Gpu, Slot, keep_gpus, make_slots, visible_gpus
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
        self.models: dict[str, str] = {}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(VARIABLE, raising=False)
        replaced = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetCount": lambda: len(self.gpus),
            "nvmlDeviceGetHandleByIndex": list(self.gpus).__getitem__,
            "nvmlDeviceGetUUID": lambda device: device,
            "nvmlDeviceGetName": lambda device: self.models.get(device, "T4"),
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


@pytest.mark.parametrize(
    ("allowed", "models", "order", "uuids"),
    [
        ("1,0", {}, None, ["GPU-bb", "GPU-aa"]),
        ("GPU-b,GPU-aa", {}, None, ["GPU-bb", "GPU-aa"]),
        ("GPU-", {}, None, [""]),
        ("7", {}, None, [""]),
        # The driver has its own order of GPUs of two kinds, unless CUDA is told to take it.
        ("1,GPU-bb", {"GPU-bb": "A100"}, None, ["", "GPU-bb"]),
        ("1,GPU-bb", {"GPU-bb": "A100"}, "PCI_BUS_ID", ["GPU-bb", "GPU-bb"]),
    ],
)
def test_launches_know_a_gpu_by_its_uuid_however_it_is_named(
    allowed: str, models: dict[str, str], order: str | None, uuids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(**{"GPU-aa": {}, "GPU-bb": {}})
    driver.models = models
    driver.install(monkeypatch)
    monkeypatch.setenv(VARIABLE, allowed)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    if order is not None:
        monkeypatch.setenv("CUDA_DEVICE_ORDER", order)
    assert [gpu.uuid for gpu in visible_gpus()] == uuids


def unique_gpus(count: int) -> list[Gpu]:
    """GPUs of which other tests at the same time know nothing."""
    return [Gpu(str(number), str(number), f"GPU-{uuid.uuid4()}") for number in range(count)]


def test_gpus_are_kept_until_they_are_given_back() -> None:
    first, second = unique_gpus(2)
    kept = keep_gpus([first])
    assert kept is not None
    assert keep_gpus([first]) is None
    assert keep_gpus([second, first]) is None
    other = keep_gpus([second])  # all or none: it was not kept before
    assert other is not None
    kept.give_back()
    again = keep_gpus([first])
    assert again is not None
    for each in (other, again):
        each.give_back()


def test_gpus_are_kept_for_a_cell_that_outlives_its_launcher() -> None:
    both = unique_gpus(2)
    kept = keep_gpus(both)
    assert kept is not None
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, pass_fds=kept.files) as cell:
        kept.give_back()
        assert keep_gpus(both[1:]) is None
        cell.kill()
    again = keep_gpus(both)
    assert again is not None
    again.give_back()


def test_without_gpus_and_without_such_names_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = unique_gpus(1)
    for _ in range(2):
        assert keep_gpus([]) is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        assert all(keep_gpus(gpu) is not None for _ in range(2))
    monkeypatch.setattr(gpus, "KEPT_PREFIX", "\0" + "long" * 50)
    assert all(keep_gpus(gpu) is not None for _ in range(2))
    assert len(caplog.messages) == 2


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
