from dataclasses import asdict
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from medqa_finetune.architecture.size import ModelSize
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.memory import peak_resident_bytes
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.load import Device, LoadedModel
from medqa_finetune.model.rates import Rates
from medqa_finetune.record.schema import Parameters
from medqa_finetune.training import meters
from medqa_finetune.training.meters import Meter, MeterState, Reading, Work, costs


class Clock:
    """Seconds that pass only when a test says so."""

    now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(Meter, "_clock", lambda self: clock.now)
    return clock


def count(meter: Meter, *lengths: int, answers: int = 1) -> None:
    """Count a step on examples of these lengths, each with `answers` answer tokens at its end."""
    squares = sum(length**2 for length in lengths)
    meter.count(Work(len(lengths), sum(lengths), answers * len(lengths), squares))


def test_new_meter_reads_zero(clock: Clock) -> None:
    meter = Meter("cpu")
    clock.now += 5
    assert meter.read() == Reading(0.0, Work(0, 0, 0, 0))


def test_work_adds_up(clock: Clock) -> None:
    meter = Meter("cpu")
    count(meter, 7, 3, answers=2)
    count(meter, 5, answers=4)
    assert meter.read() == Reading(0.0, Work(samples=3, tokens=15, answer_tokens=8, squared_lengths=83))


def test_time_runs_only_between_resume_and_pause(clock: Clock) -> None:
    meter = Meter("cpu")
    for seconds, idle in ((2, 50), (3, 70)):
        meter.resume()
        clock.now += seconds
        meter.pause()
        clock.now += idle
    assert meter.read().seconds == 5


def test_running_time_is_read_without_stopping(clock: Clock) -> None:
    meter = Meter("cpu")
    meter.resume()
    clock.now += 2
    assert meter.read().seconds == 2
    clock.now += 1
    assert meter.read().seconds == 3


def test_pausing_twice_counts_once(clock: Clock) -> None:
    meter = Meter("cpu")
    meter.resume()
    clock.now += 2
    meter.pause()
    clock.now += 9
    meter.pause()
    assert meter.read().seconds == 2


def test_throughput_leaves_warm_up_and_pauses_out(clock: Clock) -> None:
    meter = Meter("cpu")
    meter.resume()
    count(meter, 100, 100)
    clock.now += 60
    meter.mark_warm()
    count(meter, 10, 20)
    clock.now += 1
    meter.pause()
    clock.now += 30
    meter.resume()
    count(meter, 6, 4)
    clock.now += 1
    assert meter.throughput() == (4 / 2, 40 / 2)


def test_throughput_is_unknown_before_and_right_after_warm_up(clock: Clock) -> None:
    meter = Meter("cpu")
    meter.resume()
    count(meter, 10)
    clock.now += 1
    assert meter.throughput() == (None, None)
    meter.mark_warm()
    assert meter.throughput() == (None, None)


def test_without_cuda_there_is_no_gpu_peak() -> None:
    meter = Meter("cpu")
    assert meter.peak_vram_bytes() is None
    assert meter.peak_vram_reserved_bytes() is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of machines without a GPU")
def test_without_cuda_no_gpu_memory_is_held() -> None:
    gauges = Meter("cpu").gauges()
    assert (gauges["vram_allocated_gib"], gauges["vram_reserved_gib"]) == (0, 0)
    assert gauges["peak_rss_gib"] == pytest.approx(peak_resident_bytes() / 2**30, rel=0.05)


def test_a_meter_goes_on_in_another_process(clock: Clock) -> None:
    first = Meter("cpu")
    first.resume()
    clock.now += 10  # a slow warm-up
    count(first, 5)
    first.mark_warm()
    clock.now += 2
    count(first, 8)
    first.pause()
    second = Meter("cpu", first.state())
    assert second.read() == Reading(12.0, Work(samples=2, tokens=13, answer_tokens=2, squared_lengths=89))
    assert second.throughput() == (0.5, 4.0)
    second.resume()
    clock.now += 20  # another slow warm-up
    count(second, 5)
    second.mark_warm()
    clock.now += 2
    count(second, 8)
    assert second.read().seconds == 34
    assert second.throughput() == (0.5, 4.0)


def test_peaks_are_those_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "peak_resident_bytes", lambda: 1000)
    before = MeterState(Reading(), Reading(), (700, 900, 5000))
    meter = Meter("cpu", before)
    # A run that began on a GPU and ends without one held what it held.
    assert (meter.peak_vram_bytes(), meter.peak_vram_reserved_bytes(), meter.peak_rss_bytes()) == (700, 900, 5000)
    assert Meter("cpu").peak_vram_bytes() is None
    assert Meter("cpu").peak_rss_bytes() == 1000


SIZE = ModelSize(  # one layer of one matrix
    parameters=1100, matrices={"head": (100, 10), "layers.0.down_proj": (10, 10)}, embeddings=frozenset(["head"]),
    layers=1, attention_width=10, vocabulary=100, hidden=10, other_bytes=0,
)  # fmt: skip
FULL = MethodConfig(name="full", trains="all")


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> Rates:
    rates = Rates(measured=1e6, datasheet=2e6)
    monkeypatch.setattr(meters, "find_rates", lambda *of: rates)
    return rates


def model_of(size: ModelSize | None) -> LoadedModel:
    unused: Any = None
    return LoadedModel(unused, unused, Device("cpu", "CPU", "fp32"), Parameters(1100, 1100), size)


def after_two_steps() -> MeterState:
    """What a meter knows after a warm-up step of 10 s and another of 2 s, both on examples of 4 and 6 tokens."""
    work = Work(2, 10, 3, 52)
    return MeterState(Reading(12.0, work + work), Reading(2.0, work), (None, None, 0))


def test_utilization_is_arithmetic_per_second_without_warm_up_over_the_matrix_rate(rates: Rates) -> None:
    found = costs(Meter("cpu", after_two_steps()), model_of(SIZE), FULL)
    # Six per weight: 10 tokens through the matrix, 3 through the head; 12 per head width and attended position, of
    # which examples of 4 and 6 tokens have 10 and 21.
    step = 6 * (10 * 100 + 3 * 1000) + 12 * 10 * 31
    assert Work(2, 10, 3, 52).flops(model_method(FULL).training_flops(SIZE)) == step
    assert found["flops"] == 2 * step
    assert found["model_flops_utilization"] == pytest.approx(step / 2 / 1e6)
    assert (found["matrix_flops_per_second"], found["datasheet_flops_per_second"]) == (1e6, 2e6)
    assert (found["seconds"], found["samples"], found["samples_per_second"]) == (12.0, 4, 1.0)


def test_utilization_is_not_known_without_a_size_or_behind_nothing_but_warm_ups(rates: Rates) -> None:
    unsized = costs(Meter("cpu", after_two_steps()), model_of(None), FULL)
    assert (unsized["flops"], unsized["model_flops_utilization"]) == (None, None)
    assert unsized["samples_per_second"] == 1.0
    work = Work(2, 10, 3, 52)
    cold = costs(Meter("cpu", MeterState(Reading(9.0, work), Reading(), (None, None, 0))), model_of(SIZE), FULL)
    assert cold["flops"] == work.flops(model_method(FULL).training_flops(SIZE))
    assert (cold["model_flops_utilization"], cold["samples_per_second"]) == (None, None)


def test_what_a_meter_knows_survives_the_disk() -> None:
    adapter = TypeAdapter(MeterState)
    state = after_two_steps()
    assert adapter.validate_json(adapter.dump_json(state)) == state
    assert Meter("cpu", adapter.validate_python(asdict(state))).state().reading == state.reading
