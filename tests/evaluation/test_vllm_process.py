"""vLLM's process: its answers, and the faults of one that fails."""

import importlib.util
from collections.abc import Callable, Iterator

import pytest

from medqa_finetune.errors import Fault, ModelError, RunError
from medqa_finetune.evaluation import vllm_backend
from medqa_finetune.evaluation.vllm_backend import ask
from medqa_finetune.evaluation.vllm_engine import Asked, Said, faults_of
from tests.evaluation import vllm_stand_ins
from tests.faulty import only_fault
from tests.launch.children import no_child_is_left

ASKED = Asked(
    model="no/such/folder", dtype="float32", adapter=None, rank=None, trial=False, eager=True, cache_tokens=64,
    token_bytes=4, at_once=1, length=8, stop_ids=[0], max_new_tokens=2, timeout_seconds=5.0, prompts=[[1, 2]],
)  # fmt: skip


def replace_engine(monkeypatch: pytest.MonkeyPatch, function: Callable[[Asked], Iterator[Said]]) -> None:
    monkeypatch.setattr(vllm_backend, "answer", function)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [None, 10_000])
def test_engine_that_does_not_start_says_why(rank: int | None) -> None:
    asked = ASKED if rank is None else Asked(**(vars(ASKED) | {"rank": rank}))
    installed = importlib.util.find_spec("vllm") is not None
    with pytest.raises(RunError) as caught, ask(asked, 5.0):
        pass
    fault = only_fault(caught)
    if installed and rank:
        assert (fault.code, fault.key, fault.got) == ("out-of-range", "method.rank", rank)
    else:
        assert (fault.code, fault.key, fault.got) == ("engine-failed", "evaluate.backend", "vllm")
        assert ("no/such/folder" if installed else "ModuleNotFoundError") in fault.problem


def test_answers_arrive_and_the_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_engine(monkeypatch, vllm_stand_ins.answer_once)
    with no_child_is_left(), ask(ASKED, 5.0) as said:
        assert list(said) == [vllm_stand_ins.ANSWER]


def test_request_arrives_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_engine(monkeypatch, vllm_stand_ins.echo_prompts)
    with ask(ASKED, 5.0) as said:
        assert list(said) == [Said(0, ASKED.prompts[0], ASKED.eager, ASKED.timeout_seconds)]


@pytest.mark.parametrize(
    ("function", "code", "part"),
    [
        (vllm_stand_ins.leave, "process-ended", "exit code 9"),
        (vllm_stand_ins.be_killed, "process-ended", "SIGKILL"),
        (vllm_stand_ins.be_silent, "timed-out", " 0.2 "),
    ],
)
def test_failure_without_a_reason_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, function: Callable[[Asked], Iterator[Said]], code: str, part: str
) -> None:
    replace_engine(monkeypatch, function)
    monkeypatch.setattr(vllm_backend, "HANG_SECONDS", 0.1)
    with no_child_is_left(), pytest.raises(RunError) as caught, ask(ASKED, 0.1) as said:
        list(said)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, "evaluate.backend", "vllm")
    assert part in fault.problem
    assert "evaluate.backend=transformers" in fault.hint


def test_faults_of_the_engine_keep_our_own_and_name_its_error() -> None:
    ours = Fault("out-of-range", "must be ≤ 320", key="method.rank", got=512)
    (theirs,) = faults_of(ValueError("no\nsuch  model."))
    assert faults_of(ModelError(ours)) == (ours,)
    assert (theirs.code, theirs.problem) == ("engine-failed", "vLLM failed: ValueError: no such model")
