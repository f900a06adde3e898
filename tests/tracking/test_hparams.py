"""TensorBoard's HPARAMS: what its own backend reads from the run folders, and what a browser shows."""

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from medqa_finetune.config.folder_names import shortened
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.run_state.tracker_rows import report_again
from tests.report.html.browser import browser
from tests.tracking.finished import SIZES, finished, rescored
from tests.tracking.hparams_backend import metric, rows_of

SIX = [(method, data) for method in ("lora", "qlora") for data in SIZES]


def test_the_six_cells_stand_in_one_table(tmp_path: Path) -> None:
    for method, data in SIX:
        report_again(finished(tmp_path, method, data), None)
    groups, columns = rows_of(tmp_path)
    keys = {info.name for info in columns.hparam_infos}
    assert len(groups) == 6
    assert all(set(group.hparams) == keys for group in groups)
    assert {group.hparams["method.quantization"].string_value for group in groups} == {"none", "nf4"}
    differing = [info.name for info in columns.hparam_infos if info.differs]
    assert differing[:3] == ["cell.data", "cell.method", "cell.train_size"]
    # What the page shows unasked are the first five.
    shown = [info.name.tag for info in columns.metric_infos][:5]
    assert shown[:3] == ["scores/bleu", "scores/rougeL", "scores_main/perplexity"]
    assert {len(group.metric_values) for group in groups} == {len(columns.metric_infos)}


def test_seeds_are_one_row_with_their_mean(tmp_path: Path) -> None:
    for seed in (0, 2):
        report_again(finished(tmp_path, "lora", "20k", seed), None)
    ((group,), _) = rows_of(tmp_path)
    assert len(group.sessions) == 2
    assert metric(group, "scores/rougeL") == pytest.approx((24.35 + 24.65) / 2)
    assert "seed" not in group.hparams


def test_baselines_stand_in_the_same_table(tmp_path: Path) -> None:
    for method in ("lora", "none", "retrieval"):
        report_again(finished(tmp_path, method, "20k"), None)
    groups, _ = rows_of(tmp_path)
    ranks = {group.hparams["cell.method"].string_value: group.hparams["method.rank"] for group in groups}
    assert ranks["lora"].number_value == 16
    assert ranks["none"].string_value == ranks["retrieval"].string_value == "unused"


def test_what_was_swept_is_a_column_that_the_page_shows_unasked(tmp_path: Path) -> None:
    for rate in ("0.0001", "0.0002"):
        run = finished(tmp_path, "lora", "20k")
        run.path.rename(named := run.path.with_name(f"lora_20k__train.learning_rate={rate}__seed=1"))
        report_again(RunDir(named), None)
    groups, columns = rows_of(tmp_path)
    assert {group.hparams["cell.settings"].string_value for group in groups} == {"lr 1e-4", "lr 2e-4"}
    assert next(info.name for info in columns.hparam_infos if info.differs) == "cell.settings"


def test_a_name_too_long_for_a_folder_hides_no_setting(tmp_path: Path) -> None:
    run = finished(tmp_path, "lora", "20k")
    named = run.path.with_name(shortened(f"lora_20k__corpus.question={'q' * 190}__train.learning_rate=0.0001"))
    run = RunDir(run.path.rename(named))
    command = ["python", "-m", "medqa_finetune.train", "corpus.question=q", "train.learning_rate=1e-4"]
    environment = run.read().environment  # type: ignore[union-attr]
    assert environment is not None
    run.update(environment=dataclasses.replace(environment, command=command))
    report_again(run, None)
    ((group,), _) = rows_of(tmp_path)
    assert group.hparams["cell.settings"].string_value == "lr 1e-4"


def test_scores_of_later_replace_those_of_before(tmp_path: Path) -> None:
    run = finished(tmp_path, "lora", "20k")
    report_again(run, None)
    rescored(run, "max_samples=10", 31.0, max_samples=10)
    report_again(run, None)
    groups, _ = rows_of(tmp_path)
    assert len(list(tmp_path.rglob("*tfevents*"))) == 2
    assert sorted(metric(group, "scores/rougeL") for group in groups) == pytest.approx([24.35, 31.0])


@contextmanager
def tensorboard(outputs: Path) -> Iterator[str]:
    """Serve a folder, and yield the address."""
    arguments = ("--logdir", str(outputs), "--port", "0", "--load_fast", "false")
    command = (sys.executable, "-m", "tensorboard.main", *arguments)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        found = (re.search(r"http://localhost:\d+", line) for line in process.stdout)
        yield next(match.group() for match in found if match)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_browser_shows_the_six_rows(tmp_path: Path) -> None:
    for method, data in SIX:
        report_again(finished(tmp_path, method, data), None)
    with browser() as launched, tensorboard(tmp_path) as address:
        page = launched.new_page(viewport={"width": 2200, "height": 900})
        page.goto(f"{address}/#hparams")
        cells = page.locator("tf-hparams-table-view vaadin-grid-cell-content")
        page.get_by_text("demo/qlora_50k").first.wait_for(timeout=60_000)
        shown = [text.strip() for text in cells.all_inner_texts()]
    header = shown.index("cell.method"), shown.index("scores/rougeL")
    assert all(place >= 0 for place in header)
    rows = [shown[place : place + 5] for place, text in enumerate(shown) if text.startswith("demo/")]
    assert sorted((row[3], row[2]) for row in rows) == sorted(SIX)
    assert "None" not in shown
