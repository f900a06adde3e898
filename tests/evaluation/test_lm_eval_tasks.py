"""The harness on a task of our own: no network, no model but a random one."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from medqa_finetune.config.schema import EvaluateConfig
from medqa_finetune.errors import ConfigError
from medqa_finetune.evaluation.lm_eval_tasks import check_tasks, zero_shot_scores
from medqa_finetune.record.run_dir import find_runs
from tests.commands import TINY, train
from tests.evaluation.lm_eval_task import write_task
from tests.faulty import only_fault

needs_harness = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed")
ROWS: list[dict[str, Any]] = [
    {"question": f"第{place}题：{text}", "choices": ["休息", "喝水", "吃药"], "answer": place % 3}
    for place, text in enumerate(["感冒", "发烧", "头痛", "咳嗽", "失眠", "腹泻", "牙痛", "过敏"])
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(tmp_path_factory.mktemp("tasks"), "our_task", ROWS)


def accuracy(model: Any, tokenizer: Any) -> float:
    """The share of questions whose right choice is the likeliest, written apart from the harness."""
    right = 0
    for row in ROWS:
        likelihoods = []
        prompt = tokenizer(row["question"])["input_ids"]
        for choice in row["choices"]:
            ids = tokenizer(row["question"] + choice)["input_ids"]
            with torch.no_grad():
                logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            places = range(len(prompt), len(ids))
            likelihoods.append(sum(float(logs[place - 1, ids[place]]) for place in places))
        right += likelihoods.index(max(likelihoods)) == row["answer"]
    return right / len(ROWS)


@needs_harness
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_score_is_the_share_of_right_answers(folder: Path, micro_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(micro_model)
    tokenizer = AutoTokenizer.from_pretrained(micro_model)
    scores = zero_shot_scores(model, tokenizer, EvaluateConfig(zero_shot=["our_task"], zero_shot_folder=str(folder)))
    assert list(scores) == ["our_task/acc"]
    assert scores["our_task/acc"].value == pytest.approx(accuracy(model, tokenizer))
    assert "|task:our_task|version:3.0|metric:acc|filter:none|shots:0|n:8" in scores["our_task/acc"].signature


@needs_harness
@pytest.mark.slow
def test_a_run_is_evaluated_and_its_record_says_so(folder: Path, micro_model: Path, tmp_path: Path) -> None:
    benchmark = ["evaluate.zero_shot=[our_task]", f"evaluate.zero_shot_folder={folder}"]
    done = train(*TINY, f"model.path={micro_model}", "method=lora", "data=20k", *benchmark, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = find_runs(tmp_path / "outputs")
    record = run.read()
    assert record is not None
    assert 0 <= record.zero_shot["our_task/acc"].value <= 1
    assert "|version:3.0|" in record.zero_shot["our_task/acc"].signature


@needs_harness
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_unknown_task_is_refused_with_those_like_it() -> None:
    with pytest.raises(ConfigError) as caught:
        check_tasks(EvaluateConfig(zero_shot=["ceval-valia"]))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("unknown-task", "evaluate.zero_shot", ["ceval-valia"])
    assert "ceval-valid" in fault.hint


def test_without_the_harness_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        check_tasks(EvaluateConfig(zero_shot=["ceval-valid"]))
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-installed", "evaluate.zero_shot", ["ceval-valid"])
    assert "`pip install 'medqa_finetune[zero-shot]'`" in fault.hint
    check_tasks(EvaluateConfig())
