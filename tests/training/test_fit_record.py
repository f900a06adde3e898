"""What a training run leaves behind: its record, `metrics.jsonl` and event files."""

import math
from pathlib import Path

import pytest

from medqa_finetune.data.examples import IGNORED
from tests.training.trial import PAIRS, Trial, make_config, train

TAGS = {
    "train/loss",
    "eval/loss",
    "train/learning_rate",
    "train/grad_norm",
    "train/tokens_per_second",
    "train/vram_allocated_gib",
    "train/vram_reserved_gib",
}


@pytest.fixture(scope="module")
def trial(micro_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """48 examples, twice, in batches of 10 (the last of an epoch is of 8): 10 steps, 4 of them validated."""
    method = {"optimizer": "paged_adamw_8bit", "optimizer_without_cuda": "adamw_torch"}
    config = make_config(method, report_to="tensorboard", epochs=2, batch_size=10, micro_batch=5, validations=4)
    return train(micro_model, tmp_path_factory.mktemp("record"), config)


def test_samples_and_tokens_are_exact(trial: Trial) -> None:
    items = list(trial.sets.train)
    tokens = sum(len(item["input_ids"]) for item in items)
    answers = sum(sum(label != IGNORED for label in item["labels"]) for item in items)
    assert trial.record.samples == 2 * len(PAIRS)
    assert trial.record.tokens == 2 * tokens
    assert trial.record.answer_tokens == 2 * answers
    assert 0 < answers < tokens


def test_steps_and_epochs_are_those_asked_for(trial: Trial) -> None:
    assert (trial.record.steps, trial.record.epochs) == (10, 2.0)
    assert (trial.record.batch_size, trial.record.micro_batch) == (10, 5)
    assert trial.record.batch_tokens == trial.record.tokens / trial.record.steps


def test_optimizer_is_the_one_without_cuda(trial: Trial) -> None:
    assert trial.record.optimizer == "adamw_torch"


def test_gpu_memory_is_unknown_and_resident_memory_is_known(trial: Trial) -> None:
    assert trial.record.peak_vram_bytes is None
    assert trial.record.peak_vram_reserved_bytes is None
    assert trial.record.peak_rss_bytes is not None
    assert trial.record.peak_rss_bytes > 2**26


def test_losses_of_the_record_are_those_logged(trial: Trial) -> None:
    assert trial.record.final_train_loss == trial.column("loss")[-1]
    assert trial.record.best_validation_loss == min(trial.column("eval_loss"))
    best = next(row for row in trial.rows if row.get("eval_loss") == trial.record.best_validation_loss)
    assert trial.record.best_step == best["step"]


def test_what_training_changed_is_recorded(trial: Trial) -> None:
    assert trial.record.weight_change is not None
    assert 0.01 < trial.record.weight_change < 1
    assert trial.record.skipped_steps is None  # in fp32 there is nothing to skip


def test_throughput_is_a_share_of_the_whole_without_warm_up(trial: Trial) -> None:
    record = trial.record
    assert record.samples_per_second is not None
    assert record.tokens_per_second is not None
    # Two warm-up steps of 10 examples are left out of 96, so what is metered took less than all of the time.
    assert record.samples_per_second > (96 - 20) / record.seconds
    assert record.tokens_per_second / record.samples_per_second == pytest.approx(record.tokens / 96, rel=0.1)


def test_every_step_is_a_row_with_its_figures(trial: Trial) -> None:
    rows = [row for row in trial.rows if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert {row["steps"] for row in rows} == {10}
    names = {"loss", "grad_norm", "learning_rate", "vram_allocated_gib", "vram_reserved_gib", "peak_rss_gib", "epoch"}
    assert all(names <= row.keys() for row in rows)
    assert all(math.isfinite(value) for row in rows for value in row.values())


def test_tokens_per_second_is_left_out_during_warm_up(trial: Trial) -> None:
    assert [row["step"] for row in trial.rows if "tokens_per_second" in row] == list(range(3, 11))


def test_validation_is_spread_evenly_and_ends_with_the_last_step(trial: Trial) -> None:
    # Quarters of 10 steps, rounded up.
    assert [row["step"] for row in trial.rows if "eval_loss" in row] == [3, 5, 8, 10]


def test_transformers_own_speed_figures_are_left_out(trial: Trial) -> None:
    foreign = ("runtime", "_per_second", "total_flos")
    names = {name for row in trial.rows for name in row} - {"tokens_per_second"}
    assert not [name for name in names if name.endswith(foreign)]


def test_learning_rate_warms_up_and_falls_to_almost_nothing(trial: Trial) -> None:
    rates = trial.column("learning_rate")
    # ceil(0.03 * 10) = 1 step of warm-up, which has the peak rate; half a cosine over 10 steps follows.
    assert rates[0] == pytest.approx(5e-3)
    assert rates[-1] == pytest.approx(5e-3 * 0.5 * (1 + math.cos(math.pi * 9 / 10)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")
def test_event_files_hold_the_same_curves(trial: Trial) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trial.run.tensorboard_path))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= TAGS
    for tag in sorted(TAGS):
        name = "eval_loss" if tag == "eval/loss" else tag.removeprefix("train/")
        expected = [(row["step"], pytest.approx(row[name])) for row in trial.rows if name in row]
        assert [(event.step, event.value) for event in events.Scalars(tag)] == expected


def test_throughput_of_a_run_within_its_warm_up_is_unknown(micro_model: Path, tmp_path: Path) -> None:
    record = train(micro_model, tmp_path, make_config(max_steps=2)).record
    assert (record.samples_per_second, record.tokens_per_second) == (None, None)
    assert (record.steps, record.samples) == (2, 16)


def test_without_warm_up_every_step_is_metered(micro_model: Path, tmp_path: Path) -> None:
    trial = train(micro_model, tmp_path, make_config(max_steps=2, warmup_steps_unmetered=0))
    assert [row["step"] for row in trial.rows if "tokens_per_second" in row] == [1, 2]


def test_pairs_cut_at_max_length_are_counted(micro_model: Path, tmp_path: Path) -> None:
    trial = train(micro_model, tmp_path, make_config(max_steps=1, max_length=60))
    cut = sum(len(item["input_ids"]) == 60 for item in trial.sets.train)
    assert trial.record.truncated == trial.sets.train.cut
    assert 0 < trial.record.truncated <= cut


def test_curves_of_the_run_can_be_drawn(trial: Trial) -> None:
    from medqa_finetune.training.curves import plot_curves

    left, right = plot_curves(trial.rows, "trial").axes
    assert [len(line.get_xdata()) for line in left.get_lines()] == [10, 4]  # type: ignore[arg-type]
    assert len(right.get_lines()) == 1
