"""Runs over running text: the perplexity is ranked, the lower the better."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medqa_finetune.record.run_dir import RunDir, find_runs
from medqa_finetune.report.analysis import Analysis, analyse
from medqa_finetune.report.figures.base import SECTIONS, chart_input
from medqa_finetune.report.figures.costs import measures_of
from medqa_finetune.report.figures.overview import data_scale_figure, method_figure
from medqa_finetune.report.figures.registry import charts_of
from medqa_finetune.report.grouping import groups_of
from medqa_finetune.report.load import load_runs
from medqa_finetune.report.messages import label
from medqa_finetune.report.outputs.terminal import runs_as_text
from medqa_finetune.report.runs import Run
from medqa_finetune.report.stats.intervals import Finding, Resampled, Settings
from medqa_finetune.report.stats.scaling import fit_of
from medqa_finetune.report.verdict import AdviceKind, Caution, Cost, Curve
from medqa_finetune.summarize import summarize
from scripts.benchmarks.made_runs import AnswerBank, MadeRun, six, write_run
from tests.evaluations import default_of
from tests.report.made import cell
from tests.report.made_text import text_matrix, write_text_run

SETTINGS = Settings(resamples=2000, trials=2000)


def scored(folders: list[RunDir], study: str = "") -> list[Run]:
    found = []
    for folder in folders:
        record = folder.read()
        assert record is not None
        found.append(Run(record.name, study, record, items=default_of(folder).read_item_scores))
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyse(scored(text_matrix(tmp_path_factory.mktemp("text"))), SETTINGS)


def test_the_interval_is_that_of_the_tokens(tmp_path: Path) -> None:
    folder = write_text_run(tmp_path, MadeRun("lora", 20_000), 3.0)
    (run,) = scored([folder])
    (score,) = analyse([run], Settings()).scores
    rows: pd.DataFrame = pd.DataFrame(default_of(folder).read_predictions())
    assert (score.score, score.n) == ("text_perplexity", len(rows))
    assert score.value == pytest.approx(math.exp(rows["nll"].sum() / rows["tokens"].sum()))
    # By a bootstrap of its own, plain: blocks resampled, sums divided, two percentiles.
    resampled = np.random.default_rng(5).integers(0, len(rows), (20_000, len(rows)))
    nll, tokens = (rows[name].to_numpy(dtype=float)[resampled].sum(axis=1) for name in ("nll", "tokens"))
    low, high = np.quantile(np.exp(nll / tokens), [0.025, 0.975])
    assert (score.interval.low, score.interval.high) == pytest.approx((low, high), rel=0.01)


def test_the_lowest_is_recommended(whole: Analysis) -> None:
    (verdict,) = whole.verdicts
    assert (verdict.score, verdict.advice.cell) == ("text_perplexity", "lora_100k")
    assert verdict.advice.kind is AdviceKind.BEST_OF_ALL
    assert verdict.advice.lead is not None
    assert verdict.advice.lead.value < 0
    assert verdict.caution is Caution.RUNNING_TEXT


def test_an_untuned_base_that_is_lower_wins(tmp_path: Path) -> None:
    folders = [write_text_run(tmp_path, MadeRun("none", 20_000), 2.0),
               write_text_run(tmp_path, MadeRun("lora", 20_000), 3.0)]  # fmt: skip
    (verdict,) = analyse(scored(folders), SETTINGS).verdicts
    assert (verdict.advice.kind, verdict.advice.cell) == (AdviceKind.BASELINE_WINS, "none")


def test_steps_say_what_more_text_buys(whole: Analysis) -> None:
    steps = {(step.first, step.second): step for step in whole.verdicts[0].steps}
    step = steps["lora_20k", "lora_50k"]
    assert step.gain is not None
    assert step.gain < 0
    assert (step.verdict, step.score) == (Finding.DIFFERENT, "text_perplexity")


def test_the_front_goes_down_with_the_cost(whole: Analysis) -> None:
    front = next(front for front in whole.verdicts[0].pareto if front.cost is Cost.HOURS)
    on_front = [point for point in front.points if point.on_front]
    assert [point.cell for point in on_front] == ["none", "lora_20k", "lora_50k", "lora_100k"]
    assert [point.value for point in on_front] == sorted((point.value for point in on_front), reverse=True)


def test_a_falling_power_law_levels_off_from_above() -> None:
    sizes = (20_000, 50_000, 100_000)
    cells = [cell("lora", size) for size in sizes]
    values = [5 * np.exp(4e4 * size**-1.0) for size in sizes]
    rng = np.random.default_rng(0)
    resampled = {
        each.name: Resampled(each.name, np.array([value]), value + 0.002 * rng.standard_normal((1, 10_000)), 1000)
        for each, value in zip(cells, values, strict=True)
    }
    found = fit_of("lora", cells, resampled, "text_perplexity", Settings())
    assert found.model is Curve.POWER_LAW
    assert found.parameters["offset"][0] == pytest.approx(np.log(5), abs=0.03)
    assert found.parameters["exponent"][0] == pytest.approx(1, abs=0.05)
    assert [value for _, value, _, _ in found.curve] == sorted((point[1] for point in found.curve), reverse=True)
    assert found.forecast[0] == 200_000
    assert 6 < found.forecast[1].value < 7


def test_pictures_and_charts_show_the_perplexity(tmp_path: Path, whole: Analysis) -> None:
    text_matrix(tmp_path)
    (group,) = groups_of(load_runs(find_runs(tmp_path), tmp_path))
    assert [measure.column for measure in measures_of(group.cells)][:1] == ["peak_vram_gib"]
    given = chart_input(group, group.cells, whole)
    (part,) = data_scale_figure([(group, given)]).subfigs
    (axes,) = part.axes
    assert (axes.get_title(), axes.get_xlabel()) == ("Perplexity of running text, lower is better", "Training blocks")
    assert method_figure([(group, given)]).subfigs[0].axes[0].get_title() == axes.get_title()
    charts = charts_of(given)
    names = {section: [chart.name for chart in charts if chart.section == section] for section in SECTIONS}
    assert names["heat"] == ["heat_text_perplexity"]
    assert names["size"] == ["text_perplexity_by_data_size"]
    assert names["significance"] == ["text_perplexity_differences"]
    pareto = next(chart for chart in charts if chart.section == "pareto")
    assert pareto.caption.en.startswith(label("chart.pareto.down").en)


@pytest.mark.usefixtures("blank_charts")
def test_answers_and_running_text_in_one_folder_are_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = AnswerBank(30)
    for run in six()[:4]:
        write_run(tmp_path / "mine", run, bank)
    # Of the same study and a corpus of the same name: what sets them apart is the task.
    for folder in text_matrix(tmp_path / "texts", corpus="made up"):
        folder.path.rename(tmp_path / "mine" / f"text_{folder.path.name}")
    for path in (tmp_path / "mine").glob("text_*"):
        record = RunDir(path).read()
        assert record is not None
        RunDir(path).write(record.updated(name=path.name))
    assert summarize([f"outputs={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "Nothing that was trained is done" not in said
    tables = [line for line in said.splitlines() if line.startswith("run ")]
    assert ["ROUGE-L" in line for line in tables] == ["text ppl" not in line for line in tables]
    assert len(tables) == 2
    compared = pd.read_csv(tmp_path / "summary" / "comparisons.csv")
    kinds = compared[["first", "second"]].apply(lambda names: names.str.startswith("mine/text_"))
    assert (kinds["first"] == kinds["second"]).all()
    # Six pairs of four cells, in each score of answers; 21 of seven, in the one of running text.
    assert compared.groupby("score").size().to_dict()["text_perplexity"] == 21
    assert compared.groupby("score").size().to_dict()["rougeL"] == 6
    rows = pd.read_csv(tmp_path / "summary" / "results_summary.csv").set_index("name").to_dict("index")
    text, answers = rows["text_lora_20k"], rows["lora_20k"]
    assert text["text_perplexity_low"] < text["text_perplexity"] < text["text_perplexity_high"]
    assert math.isnan(text["rougeL"])
    assert math.isnan(text["perplexity"])
    assert math.isnan(answers["text_perplexity"])
    assert "there are no answers" in (tmp_path / "summary" / "report.html").read_text(encoding="utf-8")
    page = (tmp_path / "summary" / "report.html").read_text(encoding="utf-8")
    assert "Which cells differ in Text perplexity" in page
    assert "Which cells differ in ROUGE-L" in page


def test_a_run_over_text_that_failed_stands_with_those_of_its_task(tmp_path: Path) -> None:
    bank = AnswerBank(20)
    write_run(tmp_path, MadeRun("lora", 20_000), bank)
    for size in (20_000, 50_000):
        folder = write_text_run(tmp_path / "texts", MadeRun("lora", size), 3.0)
    record = folder.read()
    assert record is not None
    folder.write(record.updated(status="failed", evaluation=None, train=None))
    tables = runs_as_text(load_runs(find_runs(tmp_path), tmp_path)).split("\n\n")[:2]
    assert ["LoRA 50k" in table for table in tables] == ["text ppl" in table for table in tables]
