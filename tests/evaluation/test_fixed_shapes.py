"""Decoding in fixed shapes says what the usual decoding says; the capture of its steps, by stand-ins."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_finetune.config.identity import Fingerprints, evaluation_identity, settings_of
from medqa_finetune.errors import ConfigError, ModelError
from medqa_finetune.evaluation import fixed_shapes
from medqa_finetune.evaluation.cuda_graph import WARM_UP_RUNS, captured
from medqa_finetune.evaluation.decode import Ending, decode_greedily
from medqa_finetune.evaluation.fixed_shapes import FixedDecoder, Replaying, check_fixed_shapes, replaying
from medqa_finetune.methods.settings import MethodConfig
from medqa_finetune.model.answering import answering_form
from medqa_finetune.model.load import Device, load_model
from medqa_finetune.preflight import preflight_run
from tests.chatting.runs import config_of
from tests.config.builders import VALID, changed
from tests.evaluation.test_decode import ended, prompts, some_end
from tests.evaluation.tiny import PAD, tiny_model
from tests.faulty import only_fault
from tests.training.trial import one_thread

NEW_TOKENS = 40
MANY = tuple(1 + number * 7 % 23 for number in range(21))


@pytest.fixture(autouse=True, scope="module")
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed_shapes, "WINDOW", 16)


def usual(model: Any, asked: list[list[int]], *stops: int) -> list[list[int]]:
    return decode_greedily(model, asked, Ending(stops, PAD, NEW_TOKENS))


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "gemma", "phi", "granite", "cohere"])
def test_batches_answer_like_usual_decoding(architecture: str) -> None:
    model = tiny_model(architecture)
    check_fixed_shapes(model)
    decoder = FixedDecoder(model)
    for lengths in (MANY, (9, 9, 9, 9, 9), (3,), (30, 2)):
        asked = prompts(lengths)
        alone = usual(model, asked)
        end = some_end(alone) if len(lengths) > 2 else VOID
        expected = ended(alone, end)
        assert decoder.decode(asked, Ending((end,), PAD, NEW_TOKENS)) == expected
        if len(lengths) > 2:
            assert len({len(answer) for answer in expected}) > 1


VOID = 10**6


def test_rows_that_have_ended_leave_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("qwen2")
    asked = prompts(MANY)
    alone = usual(model, asked)
    end = some_end(alone)
    rows: list[tuple[int, int]] = []
    compute = FixedDecoder.compute

    def noting(decoder: FixedDecoder, number: int, window: int) -> torch.Tensor:
        rows.append((number, window))
        return compute(decoder, number, window)

    monkeypatch.setattr(FixedDecoder, "compute", noting)
    assert FixedDecoder(model).decode(asked, Ending((end,), PAD, NEW_TOKENS)) == ended(alone, end)
    numbers, windows = ([shape[part] for shape in rows] for part in (0, 1))
    assert numbers[0] == 32
    assert numbers[-1] < numbers[0]
    assert numbers == sorted(numbers, reverse=True)
    assert windows == sorted(windows)
    assert len(set(rows)) <= 8


def test_all_that_end_at_once_end_the_batch() -> None:
    model = tiny_model("llama")
    asked = prompts((5, 6))
    first = [answer[0] for answer in usual(model, asked)]
    assert FixedDecoder(model).decode(asked, Ending(tuple(first), PAD, NEW_TOKENS)) == [[token] for token in first]
    assert FixedDecoder(model).decode(asked, Ending((), PAD, 1)) == [[token] for token in first]


def test_no_token_is_added_after_the_deadline() -> None:
    found = FixedDecoder(tiny_model("llama")).decode(prompts((5, 6)), Ending((), PAD, NEW_TOKENS, deadline=0.0))
    assert [len(answer) for answer in found] == [1, 1]


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_adapters_in_half_precision_answer_alike(quantization: str, micro_model: Path) -> None:
    method = MethodConfig(name="lora", rank=4, dropout=0.0, quantization=quantization)
    device = Device("cpu", "CPU", "bf16")
    model: Any = answering_form(load_model(micro_model, method, device, 0).model, device)
    check_fixed_shapes(model)
    asked = [[5, 60, 7, 8], [9, 10, 11, 12, 13], [20]]
    assert FixedDecoder(model).decode(asked, Ending((), 0, 8)) == decode_greedily(model, asked, Ending((), 0, 8))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: tiny_model("mistral"), "keeps the keys"),
        (lambda: tiny_model("gemma2"), "keeps the keys"),
        (lambda: tiny_model("qwen3_next"), "experts"),
        (lambda: tiny_model("bloom"), ""),
    ],
    ids=["window", "some windows", "experts", "own masks"],
)
def test_models_without_fixed_shapes_are_refused(model: Callable[[], Any], reason: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_fixed_shapes(model().train())
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-supported", "evaluate.cuda_graphs", True)
    assert reason in fault.problem


def test_a_model_that_says_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    compute = FixedDecoder.compute
    monkeypatch.setattr(FixedDecoder, "compute", lambda *given: compute(*given) * 1.1)
    with pytest.raises(ModelError) as caught:
        check_fixed_shapes(tiny_model("llama"))
    assert only_fault(caught).code == "not-supported"


class Recorded:
    """Stands for the capture of a step: notes what is captured and replayed."""

    def __init__(self) -> None:
        self.captured, self.replayed = 0, 0

    def __call__(self, compute: Callable[[], object], step: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1
        for _ in range(2):
            compute()

        def replay() -> None:
            self.replayed += 1
            step()

        return replay


def test_each_shape_is_captured_once_and_replayed() -> None:
    model, asked, recorded = tiny_model("qwen2"), prompts(MANY), Recorded()
    decode = Replaying(FixedDecoder(model, recorded))
    for _ in range(2):
        assert decode(model, asked, Ending((), PAD, NEW_TOKENS)) == usual(model, asked)
    assert recorded.captured == 3  # windows of 32, 48 and 64 tokens, for prompts of 23
    assert recorded.replayed == 2 * (NEW_TOKENS - 1)


def test_what_cannot_be_captured_is_answered_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(compute: Callable[[], object], step: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")

    model, asked = tiny_model("qwen2"), prompts((5, 9))
    decode = Replaying(FixedDecoder(model, refuse))
    with caplog.at_level(logging.WARNING):
        found = [decode(model, asked, Ending((), PAD, NEW_TOKENS)) for _ in range(2)]
    assert found == [usual(model, asked)] * 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_replay_that_computes_something_else_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    model, asked = tiny_model("qwen2"), prompts((5, 9))
    decoder = FixedDecoder(model)

    def stale(compute: Callable[[], object], step: Callable[[], None]) -> Callable[[], None]:
        def replay() -> None:
            step()
            assert decoder._logits is not None
            decoder._logits.fill_(math.nan)

        return replay

    decoder._capture = stale
    assert Replaying(decoder)(model, asked, Ending((), PAD, NEW_TOKENS)) == usual(model, asked)
    assert "different" in caplog.text


def test_too_little_memory_is_no_reason_to_go_on() -> None:
    def refuse(compute: Callable[[], object], step: Callable[[], None]) -> Callable[[], None]:
        raise torch.OutOfMemoryError("out of memory")

    model = tiny_model("qwen2")
    with pytest.raises(torch.OutOfMemoryError):
        Replaying(FixedDecoder(model, refuse))(model, prompts((5, 9)), Ending((), PAD, NEW_TOKENS))


def test_a_capture_warms_up_beside_and_records_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Stream:
        def __init__(self, name: str = "beside") -> None:
            self.name = name

        def wait_stream(self, other: "Stream") -> None:
            calls.append(f"{self.name} waits for {other.name}")

    class Graph:
        def replay(self) -> None:
            calls.append("replay")

    @contextmanager
    def noting(what: str) -> Iterator[None]:
        calls.append(f"begin {what}")
        yield
        calls.append(f"end {what}")

    for name, stand_in in {
        "Stream": Stream, "current_stream": lambda: Stream("main"), "CUDAGraph": Graph,
        "stream": lambda stream: noting(stream.name), "graph": lambda graph: noting(type(graph).__name__),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, stand_in)
    replay = captured(lambda: calls.append("compute"), lambda: calls.append("step"))
    replay()
    assert calls == [
        "beside waits for main", "begin beside", *["compute"] * WARM_UP_RUNS, "end beside", "main waits for beside",
        "begin Graph", "step", "end Graph", "replay",
    ]  # fmt: skip


def test_without_a_gpu_graphs_are_refused(micro_model: Path) -> None:
    with pytest.raises(ModelError) as caught:
        replaying(tiny_model("qwen2"))
    assert (only_fault(caught).code, only_fault(caught).key) == ("needs-gpu", "evaluate.cuda_graphs")
    config = changed(config_of(micro_model), evaluate__cuda_graphs=True)
    with pytest.raises(ConfigError) as refused:
        preflight_run(config)
    assert "needs-gpu" in {fault.code for fault in refused.value.faults}


@pytest.mark.parametrize(
    "changes",
    [{"evaluate__backend": "vllm"}, {"corpus__task": "text"}, {"method__quantization": "int8"}],
    ids=lambda changes: next(iter(changes)),
)
def test_settings_without_an_effect_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        changed(VALID, evaluate__cuda_graphs=True, **changes)
    assert ("conflict", "evaluate.cuda_graphs") in {(fault.code, fault.key) for fault in caught.value.faults}


def test_graphs_make_no_other_evaluation() -> None:
    names = Fingerprints("0", "1")
    plain, graphs = (settings_of(changed(VALID, evaluate__cuda_graphs=on), names) for on in (False, True))
    assert evaluation_identity(plain) == evaluation_identity(graphs)
