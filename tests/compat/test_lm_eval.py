"""What is relied on of lm-evaluation-harness: the names that it knows, and the form of what it returns."""

import importlib.util
import math
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from medqa_finetune.compat import lm_eval
from medqa_finetune.compat.lm_eval import Result
from tests.evaluation.lm_eval_task import write_task

needs_harness = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one task of three questions; it is of no group."""
    rows = [{"question": "感冒怎么办？", "choices": ["休息", "喝水"], "answer": place} for place in (0, 1, 1)]
    return write_task(tmp_path_factory.mktemp("tasks"), "compat_task", rows)


@needs_harness
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_task_names_are_its_own_and_those_of_a_folder(folder: Path) -> None:
    own = lm_eval.task_names(None)
    assert {"ceval-valid", "cmmlu", "hellaswag"} <= own
    assert lm_eval.task_names(str(folder)) - own == {"compat_task"}


@needs_harness
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_evaluate_finds_the_fields_in_what_the_harness_returns(folder: Path, micro_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(micro_model)
    tokenizer = AutoTokenizer.from_pretrained(micro_model)
    (result,) = lm_eval.evaluate(model, tokenizer, ["compat_task"], str(folder), 2)
    assert result.value in (0.0, 0.5, 1.0)
    assert result == Result("compat_task", "acc", "none", result.value, 3.0, 2, 1)


def test_read_results_leaves_out_what_is_no_figure() -> None:
    # lm-eval 0.4.13: `results` of gsm8k (two filters), with what else stands there.
    found = {
        "results": {
            "gsm8k": {
                "name": "gsm8k", "alias": "gsm8k", "sample_len": 2, "exact_match,strict-match": 0.0,
                "exact_match_stderr,strict-match": "N/A", "exact_match,flexible-extract": 0.5,
                "exact_match_stderr,flexible-extract": 0.1, "other,none": math.nan,
            },
            "a_group": {"acc,none": 1, "alias": "a group"},
        },
        "versions": {"gsm8k": 3.0},
        "n-samples": {"gsm8k": {"original": 1319, "effective": 2}},
    }  # fmt: skip
    assert list(lm_eval.read_results(found)) == [
        Result("a_group", "acc", "none", 1.0, None, None, 1),
        Result("gsm8k", "exact_match", "flexible-extract", 0.5, 3.0, 2, 2),
        Result("gsm8k", "exact_match", "strict-match", 0.0, 3.0, 2, 2),
    ]
