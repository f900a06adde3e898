"""`scripts/benchmark.py options`: what is tried, on what, and gains round by round; the real thing once, small."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.compose import to_config
from medqa_finetune.errors import ConfigError
from scripts.benchmarks import options, ours
from tests.config.builders import compose
from tests.faulty import only_fault
from tests.scripts.test_benchmark import settings


@pytest.mark.slow
def test_options_beside_plain_torch(run_script: Callable[..., Any], tmp_path: Path) -> None:
    outcome = run_script(
        "benchmark", "options", "--rows", "32", "--eval-rows", "1", "--rounds", "1", "--try", "adamw_torch_fused",
        "--methods", "full", "--scratch", str(tmp_path), "--out", "kept/options.json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "| batch 8, real lengths | full | adamw_torch_fused |" in outcome.out
    plain, fused = json.loads(Path("kept/options.json").read_text("utf-8"))["rounds"]
    # The same but for rounding: another optimizer would end elsewhere.
    assert fused["mean_loss"] == pytest.approx(plain["mean_loss"], rel=1e-6)
    assert fused["train_seconds"] > 0


def test_options_that_the_device_cannot_are_refused() -> None:
    on_cpu = ["fused_adapters", "dropout", "dropout_fused", "checkpointing_fused", "adamw_torch_fused", "compile"]
    assert options.names_for([], "cpu") == ["adamw_torch", *on_cpu]
    assert options.names_for(["liger"], "cuda") == ["adamw_torch", "liger"]
    with pytest.raises(ConfigError) as caught:
        options.names_for(["liger"], "cpu")
    fault = only_fault(caught)
    assert (fault.code, fault.key, fault.got) == ("not-allowed", "--try", "liger")
    assert fault.allowed == tuple(on_cpu)


@pytest.mark.parametrize("name", options.OPTIONS)
def test_every_option_is_a_command_line_that_composes(name: str, tmp_path: Path) -> None:
    option = options.OPTIONS[name]
    config = to_config(compose(*ours.command(settings(), tmp_path)[3:], *option.changes))
    expected = name if name.startswith(("adamw", "paged")) else options.PLAIN
    assert {config.method.optimizer, config.method.optimizer_without_cuda} == {expected}
    assert config.train.kernels == ("liger" if name == "liger" else "torch")


def test_gains_are_taken_round_by_round() -> None:
    rows = [
        {"round": number, "work": "w", "method": "lora", "option": option, "train_samples_per_second": speed}
        for number, option, speed in [(1, "adamw_torch", 10.0), (1, "liger", 12.0), (2, "adamw_torch", 20.0),
                                      (2, "liger", 30.0)]
    ]  # fmt: skip
    failed = {"round": 3, "work": "w", "method": "lora", "option": "liger", "failed": "exit code 1: no memory"}
    plain, liger = options.summarize([*rows, failed])
    assert plain["speedup"] == {"median": 1.0, "least": 1.0, "most": 1.0}
    assert liger["speedup"] == {"median": 1.35, "least": 1.2, "most": 1.5}
    assert (liger["rounds"], liger["failed"]) == (2, ["exit code 1: no memory"])
    assert "| w | lora | liger | 21.00 (12.00–30.00) | 1.35 (1.20–1.50) |" in options.table([plain, liger])
