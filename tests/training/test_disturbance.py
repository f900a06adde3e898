import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from medqa_finetune.cores import own_cores
from medqa_finetune.training import disturbance
from medqa_finetune.training.disturbance import Disturbance, GpuState, Watch, gpu_state, rates


class Machine:
    """A machine whose clocks pass only when a test says so."""

    def __init__(self, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = self.process = self.busy = 0.0
        monkeypatch.setattr(disturbance, "own_cores", lambda: list(range(cores)))
        monkeypatch.setattr(
            disturbance, "_now", lambda others: disturbance._Moment(self.clock, self.process, self.busy)
        )

    def work(self, seconds: float, own: float, others: float) -> None:
        """Let seconds pass, in which the process and other programs use so many cores."""
        self.clock += seconds
        self.process += own * seconds
        self.busy += (own + others) * seconds


def measured(watch: Watch, machine: Machine, own: float, others: float) -> Disturbance:
    """What a watch finds in ten seconds."""
    watch.resume()
    machine.work(10, own, others)
    watch.pause()
    return watch.read()


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


@pytest.mark.parametrize(
    ("cores", "own", "others", "share", "taken"),
    [
        (2, 2.0, 0.0, 1.0, 0.0),
        (2, 1.0, 1.0, 0.5, 0.5),
        (2, 0.5, 1.5, 0.25, 0.75),
        (2, 1.8, 0.0, 0.9, 0.0),  # it waits for itself
        (16, 2.0, 13.0, 1.0, 0.0),  # others have cores of their own
        (1, 0.5, 0.5, 0.5, 0.5),  # more threads than cores
    ],
)
def test_only_what_others_take_disturbs(
    cores: int,
    own: float,
    others: float,
    share: float,
    taken: float,
    two_threads: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = rates(measured(Watch(cuda=False), Machine(cores, monkeypatch), own, others))
    assert found["cpu_share"] == pytest.approx(share)
    assert found["cpu_taken_rate"] == pytest.approx(taken)


def test_a_gpu_wants_one_thread(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured(Watch(cuda=True), Machine(2, monkeypatch), own=1.0, others=1.0)
    assert (found.wanted, found.used, found.taken) == (10, 10, 0)


def test_pauses_are_not_measured_and_processes_add_up(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(2, monkeypatch)
    first = measured(Watch(cuda=False), machine, own=1.0, others=1.0)
    machine.work(100, own=0, others=2)
    both = measured(Watch(cuda=False, earlier=first), machine, own=2.0, others=0.0)
    assert both == Disturbance(wanted=40, used=30, taken=10)


def test_moments_are_too_short_to_tell() -> None:
    assert set(rates(Disturbance(wanted=0.5, used=0.5)).values()) == {None}


def burn(until: float) -> None:
    while time.monotonic() < until:
        pass


@contextmanager
def busy(processes: int, seconds: float) -> Iterator[None]:
    """Let other processes compute on this one's cores."""
    context = multiprocessing.get_context("fork")
    until = time.monotonic() + seconds
    children = [context.Process(target=burn, args=(until,)) for _ in range(processes)]
    for child in children:
        child.start()
    yield
    for child in children:
        child.join()


def test_a_busy_machine_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    cores = own_cores()
    watch = Watch(cuda=False)
    with busy(2 * len(cores), 1.2):
        watch.resume()
        burn(time.monotonic() + 1.1)
        found = rates(watch.read())
    assert found["cpu_share"] is not None
    assert found["cpu_taken_rate"] is not None
    assert found["cpu_share"] < 0.7
    assert found["cpu_taken_rate"] > 0.3


def driver(reasons: Any, processes: Any) -> dict[str, Any]:
    """The calls of NVML with their answers; an error is raised."""

    def answering(answer: Any) -> Any:
        def call(*arguments: object) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    return {
        "nvmlInit": answering(None),
        "nvmlDeviceGetHandleByUUID": answering("device"),
        "nvmlDeviceGetCurrentClocksEventReasons": answering(reasons),
        "nvmlDeviceGetComputeRunningProcesses": answering(processes),
    }


REFUSED = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
ONE, TWO = [SimpleNamespace(pid=1)], [SimpleNamespace(pid=1), SimpleNamespace(pid=2)]


@pytest.mark.parametrize(
    ("reasons", "processes", "state"),
    [
        (pynvml.nvmlClocksEventReasonSwPowerCap, ONE, GpuState(False, False)),
        (pynvml.nvmlClocksEventReasonHwThermalSlowdown, ONE, GpuState(True, False)),
        (pynvml.nvmlClocksEventReasonSwThermalSlowdown | 1, TWO, GpuState(True, True)),
        (REFUSED, TWO, GpuState(False, True)),
        (0, REFUSED, GpuState(False, False)),
        (0, [], GpuState(False, False)),
    ],
)
def test_heat_and_other_processes_are_seen(
    reasons: Any, processes: Any, state: GpuState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disturbance, "_gpu_uuid", lambda: "GPU-1")
    for name, call in driver(reasons, processes).items():
        monkeypatch.setattr(pynvml, name, call)
    disturbance._begin.cache_clear()
    assert gpu_state() == state


def test_a_gpu_that_does_not_tell_has_no_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter([GpuState(True, False), None, GpuState(False, True), GpuState(False, False), GpuState(True, False)])
    monkeypatch.setattr(disturbance, "gpu_state", lambda: next(states))
    watch = Watch(cuda=True)
    for _ in range(5):
        watch.look_at_gpu()
    found = rates(watch.read())
    assert (found["gpu_throttled_rate"], found["gpu_shared_rate"]) == (0.5, 0.25)
    assert rates(Disturbance(wanted=9))["gpu_throttled_rate"] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of machines without a GPU")
def test_without_a_driver_there_is_no_state() -> None:
    disturbance._begin.cache_clear()
    assert gpu_state() is None
