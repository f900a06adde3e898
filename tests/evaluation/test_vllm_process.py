"""The process beside us: what it says arrives, and how it ends is told."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from medqa_finetune.errors import Fault, ModelError, RunError
from medqa_finetune.evaluation import vllm_process
from medqa_finetune.evaluation.vllm_engine import Asked, Said, faults_of
from medqa_finetune.evaluation.vllm_process import ask
from tests.faulty import only_fault

ASKED = Asked(
    model="no/such/folder", dtype="float32", adapter=None, rank=None, trial=False, eager=True, cache_tokens=64,
    token_bytes=4, at_once=1, length=8, end_id=0, max_new_tokens=2, timeout_seconds=5.0, prompts=[[1, 2]],
)  # fmt: skip
ANSWER = '{"place": 0, "tokens": [4, 0], "timed_out": false, "seconds": 0.5}'
READY = '{"place": -1, "tokens": [], "timed_out": false, "seconds": 0.0}'


def saying(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let another program stand in the place of vLLM."""
    original = subprocess.Popen

    def start(command: list[str], **options: object) -> "subprocess.Popen[bytes]":
        return original([sys.executable, "-c", code], **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr("medqa_finetune.evaluation.vllm_process.subprocess.Popen", start)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [None, 10_000])
def test_why_the_engine_does_not_start_is_told(tmp_path: Path, rank: int | None) -> None:
    asked = ASKED if rank is None else Asked(**(vars(ASKED) | {"rank": rank}))
    installed = importlib.util.find_spec("vllm") is not None
    with pytest.raises(RunError) as caught, ask(asked, tmp_path, 5.0):
        pass
    fault = only_fault(caught)
    if installed and rank:
        assert (fault.code, fault.key, fault.got) == ("out-of-range", "method.rank", rank)
    else:
        assert (fault.code, fault.key, fault.got) == ("engine-failed", "evaluate.backend", "vllm")
        assert ("no/such/folder" if installed else "ModuleNotFoundError") in fault.problem


def test_answers_arrive_and_the_process_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, f"print('{READY}'); print('{ANSWER}', flush=True); import time; time.sleep(60)")
    began = time.monotonic()
    with ask(ASKED, tmp_path, 5.0) as said:
        assert next(said) == Said(0, [4, 0], False, 0.5)
    assert time.monotonic() - began < 30
    assert not psutil.Process().children()


def test_what_was_asked_is_read_as_it_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, f"print('{READY}')")
    with ask(ASKED, tmp_path, 5.0) as said:
        assert list(said) == []
    from pydantic import TypeAdapter

    assert TypeAdapter(Asked).validate_json((tmp_path / "asked.json").read_bytes()) == ASKED


@pytest.mark.parametrize(
    ("program", "code", "part"),
    [
        ("import os; os._exit(9)", "process-ended", "exit code 9 "),
        ("import os; os.kill(os.getpid(), 9)", "process-ended", "exit code -9 "),
        (f"print('{READY}', flush=True); import time; time.sleep(60)", "timed-out", " 0.2 "),
    ],
)
def test_how_it_failed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, code: str, part: str
) -> None:
    saying(monkeypatch, program)
    monkeypatch.setattr(vllm_process, "HANG_SECONDS", 0.1)
    with pytest.raises(RunError) as caught, ask(ASKED, tmp_path, 0.1) as said:
        list(said)
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == (code, "evaluate.backend", "vllm")
    assert part in fault.problem
    assert "evaluate.backend=transformers" in fault.hint
    assert not psutil.Process().children()


def test_faults_that_the_engine_says_arrive_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Fault("out-of-range", "must be ≤ 320", key="method.rank", got=512)
    (theirs,) = faults_of(ValueError("no\nsuch  model."))
    line = json.dumps({"faults": [fault.as_json() for fault in (*faults_of(ModelError(ours)), theirs)]})
    saying(monkeypatch, f"print({line!r})")
    with pytest.raises(RunError) as caught, ask(ASKED, tmp_path, 5.0):
        pass
    assert caught.value.faults == (ours, theirs)
    assert (theirs.code, theirs.problem) == ("engine-failed", "vLLM failed: ValueError: no such model")
