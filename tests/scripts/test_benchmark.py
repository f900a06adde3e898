"""`scripts/benchmark.py`: the same work for everybody, honest summaries; the real thing once, small."""

import json
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.config.compose import to_config
from medqa_finetune.errors import ConfigError, DataError, RunError
from scripts.benchmarks import (
    growth,
    made_pairs,
    made_runs,
    make_work,
    ours,
    profile,
    results,
    run_llamafactory,
    speed,
    startup,
)
from scripts.benchmarks.growth_stage import PeakMemory
from scripts.benchmarks.settings import Settings, read_settings, write_settings
from tests.config.builders import compose
from tests.faulty import only_fault

MIB = 2**20


def settings(**changes: Any) -> Settings:
    whole: dict[str, Any] = {
        "model": "model", "data": "data", "method": "lora", "device": "cpu", "rows": 400, "eval_rows": 200,
        "predict": True, "batch": 8, "micro_batch": 4, "max_length": 1024, "gradient_checkpointing": False,
    }  # fmt: skip
    return Settings(**whole | changes)


def asked(**changes: Any) -> Namespace:
    whole: dict[str, Any] = {
        "model": "tiny", "device": "cpu", "methods": ["lora"], "tokens": [], "rows": 400, "eval_rows": 200, "batch": 8,
        "micro_batch": None, "max_new_tokens": 64, "gradient_checkpointing": False, "rounds": 3, "own_defaults": False,
        "longest": 1000,
    }  # fmt: skip
    return Namespace(**whole | changes)


@pytest.mark.slow
def test_the_whole_on_a_tiny_model(run_script: Callable[..., Any], tmp_path: Path) -> None:
    outcome = run_script(
        "benchmark", "speed", "--rows", "32", "--eval-rows", "3", "--max-new-tokens", "3", "--rounds", "1",
        "--scratch", str(tmp_path), "--out", "kept/speed.json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "| batch 8, real lengths | lora | medqa_finetune |" in outcome.out
    assert "trl is left out: no --trl PYTHON was given" in outcome.out
    kept = json.loads(Path("kept/speed.json").read_text("utf-8"))
    (row,) = kept["rounds"]
    assert row["train_samples_per_second"] > 0
    assert 8 < row["mean_loss"] < 10  # ln 8000 is 9: random weights
    assert row["peak_rss_bytes"] > 100 * MIB
    assert row["predict_samples_per_second"] > 0
    assert kept["machine"]["cores"] >= 1
    assert kept["date"].startswith("20")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "kept"]  # the work is gone


@pytest.mark.slow
def test_a_profile_of_the_whole(run_script: Callable[..., Any], tmp_path: Path) -> None:
    outcome = run_script(
        "benchmark", "profile", "--rows", "32", "--eval-rows", "3", "--max-new-tokens", "3",
        "--scratch", str(tmp_path), "--out", "kept/profile.json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "| matrix products |" in outcome.out
    kept = json.loads(Path("kept/profile.json").read_text("utf-8"))
    # Four steps of training, each with a product forth and back for every linear layer, adapters not counted.
    assert kept["measured"]["training"]["operators"]["aten::mm"]["calls"] > 4 * 2 * 6 * 7
    for part in ("training", "answering"):
        shares = kept["shares"][part]
        assert sum(share for share, _ in shares.values()) == pytest.approx(1)
        assert shares["matrix products"][0] > 0.05
        assert shares[profile.OUTSIDE][0] > 0


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::mm", "matrix products"),
        ("aten::addmm", "matrix products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("aten::_log_softmax_backward_data", "loss"),
        ("aten::mul_", "multiplications"),
        ("aten::silu_backward", "norms and activations"),
        ("aten::copy_", "copies and indices"),
        ("Optimizer.step#AdamW.step", "optimizer"),
        ("aten::as_strided", "other operators"),
        ("bitsandbytes::gemv_4bit", "matrix products"),
    ],
)
def test_operators_are_counted_by_kind(operator: str, kind: str) -> None:
    assert profile.kind_of(operator) == kind


def test_shares_are_of_the_wall_time() -> None:
    operators = {
        "aten::mm": {"calls": 3, "seconds": 1.0},
        "aten::bmm": {"calls": 1, "seconds": 0.5},
        "aten::view": {"calls": 9, "seconds": 0.1},
    }
    shares = profile.shares_of({"seconds": 2.0, "operators": operators})
    assert shares["matrix products"] == (0.75, 4)
    assert shares[profile.OTHER][0] == pytest.approx(0.05)
    assert shares[profile.OTHER][1] == 9
    assert shares[profile.OUTSIDE][0] == pytest.approx(0.2)


def test_a_path_that_is_not_there_is_refused(run_script: Callable[..., Any]) -> None:
    outcome = run_script("benchmark", "speed", "--pairs", "nowhere.jsonl")
    assert outcome.code == 2
    (fault,) = outcome.faults
    assert (fault.code, fault.key, fault.got) == ("file-missing", "--pairs", "nowhere.jsonl")


def test_our_command_line_is_one_that_composes(tmp_path: Path) -> None:
    arguments = ours.command(settings(method="qlora", rows=40), tmp_path)[3:]
    config = to_config(compose(*arguments))
    assert (config.train_size, config.test_size, config.train.batch_size, config.method.dropout) == (40, 200, 8, 0.0)
    assert (config.method.rank, config.method.alpha, config.train.scheduler) == (16, 32, "linear")
    assert (config.train.warmup_ratio, config.train.learning_rate, config.evaluate.max_new_tokens) == (0.0, 2e-4, 64)


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    answer = ours.run_ours(settings(model=str(tmp_path / "none")), tmp_path / "outputs", tmp_path / "log")
    assert answer["failed"].startswith("exit code 2: ")
    assert "none" in answer["failed"]


def test_the_mean_loss_weighs_points_by_their_steps(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": 10, "steps": 15, "loss": 3.0}, {"step": 12, "steps": 15, "eval_loss": 9.0},
            {"step": 15, "steps": 15, "loss": 6.0}]  # fmt: skip
    made_pairs.write_rows(path, rows)  # type: ignore[arg-type]
    assert ours.mean_loss(path) == pytest.approx((10 * 3 + 5 * 6) / 15)
    made_pairs.write_rows(path, rows[:2])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"10\b.*\b15"):
        ours.mean_loss(path)


@pytest.mark.parametrize(("rows", "expected"), [(400, 10), (160, 20), (8 * 13, 13), (8 * 23, 1), (32, 4)])
def test_points_of_the_loss_end_at_the_last_step(rows: int, expected: int) -> None:
    chosen = settings(rows=rows)
    assert chosen.logging_steps == expected
    assert chosen.steps % chosen.logging_steps == 0


def test_settings_survive_the_way_to_another_process(tmp_path: Path) -> None:
    write_settings(tmp_path / "s.json", settings(method="qlora"))
    assert read_settings(tmp_path / "s.json") == settings(method="qlora")


def test_jobs_are_all_lengths_by_all_methods() -> None:
    jobs = speed.plan_jobs(asked(methods=["lora", "qlora"], tokens=[512, 4096]))
    assert [(job.tokens, job.method, job.batch) for job in jobs] == [
        (None, "lora", 8), (None, "qlora", 8), (512, "lora", 8), (512, "qlora", 8), (4096, "lora", 8),
        (4096, "qlora", 8), (512, "qlora", 1),
    ]  # fmt: skip
    assert [job.title() for job in jobs[::3]] == ["batch 8, real lengths", "batch 8, 512 tokens", "batch 1, 512 tokens"]


def test_long_pairs_are_fewer_and_rows_fill_whole_steps(tmp_path: Path) -> None:
    chosen = [speed.settings_of(job, asked(rows=403), tmp_path) for job in speed.plan_jobs(asked(tokens=[512, 4096]))]
    assert [(each.rows, each.max_length, each.predict) for each in chosen] == [
        (400, 1024, True), (112, 512, False), (32, 4096, False),
    ]  # fmt: skip
    lone = speed.settings_of(speed.Job(512, "qlora", 1), asked(micro_batch=4), tmp_path)
    assert (lone.batch, lone.micro_batch, lone.gradient_checkpointing) == (1, 1, True)


def test_missing_peers_are_left_out_with_a_reason(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import sys

    pythons: dict[str, Path | None] = {
        "llamafactory": Path(sys.executable),
        "trl": tmp_path / "python",
        "torch": Path(sys.executable),
    }
    found = speed.find_peers(pythons)  # torch stands for a peer that is installed
    assert list(found) == ["torch"]
    said = capsys.readouterr().out
    assert f"llamafactory is left out: {sys.executable} has no llamafactory" in said
    assert f"trl is left out: {tmp_path / 'python'}: No such file" in said


def test_a_peer_that_fails_is_a_row_with_its_reason(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho begun >&2\necho 'RuntimeError: no memory' >&2\nexit 3\n", "utf-8")
    python.chmod(0o755)
    answer = speed.run_peer("trl", python, settings(data=str(tmp_path)), tmp_path)
    assert answer == {"failed": "exit code 3: RuntimeError: no memory"}


def rows_of_two_rounds() -> list[dict[str, Any]]:
    common = {"work": "batch 8, real lengths", "method": "lora", "mean_loss": 8.7, "peak_rss_bytes": 2**30,
              "peak_vram_bytes": None, "predict_samples_per_second": None}  # fmt: skip
    own = {"flops_per_sample": 2e9, "matrix_flops_per_second": 100e9}
    return [
        {**common, **own, "by": "medqa_finetune", "round": 1, "train_samples_per_second": 30.0},
        {**common, "by": "trl", "round": 1, "train_samples_per_second": 5.0},
        {**common, "by": "llamafactory", "round": 1, "failed": "exit code 1: x"},
        {**common, **own, "by": "medqa_finetune", "round": 2, "train_samples_per_second": 20.0},
        {**common, "by": "trl", "round": 2, "train_samples_per_second": 5.0},
        {**common, "by": "llamafactory", "round": 2, "failed": "exit code 1: x"},
    ]


def test_summaries_hold_medians_spreads_shares_and_failures() -> None:
    first, second, third = speed.summarize(rows_of_two_rounds(), [speed.Job(None, "lora", 8)])
    assert first["train_samples_per_second"] == {"median": 25.0, "least": 20.0, "most": 30.0}
    assert first["model_flops_utilization"]["median"] == pytest.approx(0.5)
    assert second["model_flops_utilization"]["median"] == pytest.approx(0.1)
    assert (third["rounds"], third["failed"]) == (0, ["exit code 1: x"] * 2)
    assert third["train_samples_per_second"] is None


def test_the_table_shows_ratios_spreads_and_dashes() -> None:
    lines = speed.table(speed.summarize(rows_of_two_rounds(), [speed.Job(None, "lora", 8)])).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "| medqa_finetune | 25.00 (20.00–30.00) |  | 8.700 | 1.00 | – | – | 0.50 (0.40–0.60) |" in lines[2]
    assert "| trl | 5.00 | 5.00 × |" in lines[3]
    assert "| llamafactory | failed |" in lines[4]


def test_our_own_defaults_leave_out_what_peers_are_told() -> None:
    told = {part.partition("=")[0] for part in ours.command(settings(), Path("out"))}
    left = {part.partition("=")[0] for part in ours.command(settings(own_defaults=True), Path("out"))}
    assert told - left == {"method.dropout", "train.micro_batch", "train.gradient_checkpointing"}
    assert left < told


def test_llamafactory_gets_the_same_settings() -> None:
    own = settings(method="qlora", device="cuda", gradient_checkpointing=True)
    arguments = run_llamafactory.training(own, Path("out"))
    assert arguments["per_device_train_batch_size"] * arguments["gradient_accumulation_steps"] == own.batch
    assert (arguments["quantization_bit"], arguments["bf16"], arguments["use_cpu"]) == (4, True, False)
    assert arguments["disable_gradient_checkpointing"] is False
    assert "quantization_bit" not in run_llamafactory.training(settings(), Path("out"))


def test_made_examples_are_the_same_for_a_seed() -> None:
    source = made_pairs.read_rows(None)
    pairs = list(made_pairs.made_pairs(source, 2000))
    assert pairs == list(made_pairs.made_pairs(source, 2000))
    assert pairs[:5] != list(made_pairs.made_pairs(source, 5, seed=1))
    mean = sum(len(pair["question"]) + len(pair["answer"]) for pair in pairs) / len(pairs)
    assert 150 < mean < 220
    assert len({pair["question"] for pair in pairs}) > 1990


@pytest.mark.parametrize("tokens", [64, 512])
def test_pairs_of_a_wanted_length_have_it(tokens: int) -> None:
    tokenizer = make_work.build_tokenizer([row["answer"] for row in made_pairs.read_rows(None)[:300]])
    rows = make_work.rows_of_length(tokenizer, made_pairs.read_rows(None), tokens, 20)
    for row in rows:
        messages = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
        whole = str(tokenizer.apply_chat_template(messages, tokenize=False))
        assert tokens <= len(tokenizer(whole)["input_ids"]) <= tokens + 32  # the template on top


def test_peers_get_the_very_pairs_that_our_own_preparation_takes(tmp_path: Path) -> None:
    rows = make_work.choose_rows(made_pairs.read_rows(None), 60)
    make_work.make_data(tmp_path, rows, 40, 8)
    train, evaluation = (made_pairs.read_rows(tmp_path / f"{name}.jsonl") for name in ("train", "eval"))
    assert (len(train), len(evaluation)) == (40, 8)
    assert {row["question"] for row in train}.isdisjoint(row["question"] for row in evaluation)
    alpaca = json.loads((tmp_path / "train_alpaca.json").read_text("utf-8"))
    assert [row["output"] for row in alpaca] == [row["answer"] for row in train]
    with pytest.raises(DataError) as caught:
        make_work.choose_rows(rows, 99_999)
    fault = only_fault(caught)
    assert (fault.code, fault.key, "99999" in fault.problem) == ("corpus-too-small", "--pairs", True)


def test_failed_work_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        speed._make("data", tmp_path / "data", ["--train", "90000000", "--eval", "0"])
    fault = only_fault(caught)
    assert (fault.code, "99000001" in fault.problem) == ("process-failed", True)


@pytest.mark.slow
def test_growth_measures_each_stage_at_each_size(run_script: Callable[..., Any], tmp_path: Path) -> None:
    outcome = run_script(
        "benchmark", "growth", "--sizes", "700", "1500", "--largest-setup", "1000", "--scratch", str(tmp_path),
        "--out", "kept/growth.json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    rows = json.loads(Path("kept/growth.json").read_text("utf-8"))["rows"]
    assert [(row["stage"], row["pairs"] > 1000) for row in rows] == [
        ("prepare", False), ("setup", False), ("prepare", True),
    ]  # fmt: skip
    assert all(row["seconds"] > 0 and row["resident_bytes"] >= row["private_bytes"] > 10 * MIB for row in rows)
    assert Path("kept/growth.png").read_bytes().startswith(b"\x89PNG")


def test_a_straight_line_has_its_exponent() -> None:
    rows = [{"pairs": n, "seconds": 3e-6 * n**2} for n in (10, 100, 1000)]
    assert growth.exponents(rows) == [None, pytest.approx(2), pytest.approx(2)]


def test_a_stage_that_fails_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        growth.measure("prepare", 5, tmp_path / "nowhere.jsonl", [str(tmp_path / "cache")])
    fault = only_fault(caught)
    assert (fault.code, fault.file) == ("process-failed", str(tmp_path / "nowhere.jsonl"))
    assert "corpus.path=" in fault.problem


def test_peak_memory_is_seen_though_it_has_gone() -> None:
    import numpy as np

    with PeakMemory() as before:
        pass
    with PeakMemory() as memory:
        held, until = np.ones(60 * MIB // 8), time.monotonic() + 10
        while memory.private <= before.private + 50 * MIB and time.monotonic() < until:
            time.sleep(0.01)  # a busy machine takes its time for the next sample
        del held
    assert memory.private > before.private + 50 * MIB
    assert memory.resident >= memory.private


def test_overhead_is_neither_steps_nor_generation() -> None:
    record = {"train": {"seconds": 20.0}, "evaluation": {"seconds": 5.5}}
    assert startup.around(record, 33.0) == pytest.approx(7.5)


def test_spreads_leave_out_what_was_not_measured() -> None:
    assert results.spread([None, 3.0, 1.0, 2.0]) == {"median": 2.0, "least": 1.0, "most": 3.0}
    assert results.spread([None]) is None
    assert results.shown(results.spread([1.0])) == "1.00"


@pytest.mark.slow
def test_summaries_are_measured(run_script: Callable[..., Any], tmp_path: Path) -> None:
    outcome = run_script(
        "benchmark", "summary", "--runs", "40", "--questions", "30", "--scratch", str(tmp_path), "--out", "kept/s.json"
    )
    assert outcome.code == 0, outcome.err
    assert "| 40 | many |" in outcome.out
    measured = json.loads(Path("kept/s.json").read_text("utf-8"))["measured"]
    assert [(each["what"], each["runs"]) for each in measured] == [("six", 7), ("six, three seeds", 19), ("many", 40)]
    assert all(50 * MIB < each["peak_rss_bytes"] < 2000 * MIB for each in measured)


def test_made_runs_are_distinct_and_as_many_as_asked_for() -> None:
    for runs in (made_runs.many(1000), made_runs.six(3)):
        assert len({run.name for run in runs}) == len(runs)
    assert len(made_runs.many(1000)) == 1000
