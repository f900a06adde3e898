"""Metrics of other packages: one is installed like a distribution, scores predictions, and is shown everywhere."""

import importlib
import os
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from medqa_finetune.config.evaluation_checks import metric_names
from medqa_finetune.errors import ConfigError
from medqa_finetune.evaluation.metric_registry import all_scores, describe, find_metric
from medqa_finetune.evaluation.metrics.base import Better
from medqa_finetune.evaluation.predictions import Prediction
from medqa_finetune.evaluation.score import score_predictions
from medqa_finetune.record.run_dir import RunDir
from medqa_finetune.record.schema import Record, Score
from medqa_finetune.summarize import summarize
from medqa_finetune.variants.table import shown_scores
from tests.evaluations import write_default
from tests.faulty import only_fault
from tests.report.builders import record

PLUGIN = """
    from medqa_finetune.evaluation.metrics.base import Better, Metric, ScoreInfo, ScoreWords

    class Politeness(Metric):
        scores = (
            ScoreInfo("politeness", Better.HIGHER, high=1.0, digits=3,
                      words={"en": ScoreWords("Politeness", "Share of polite answers")}),
        )

        def signature(self, name, predictions):
            return "politeness|word:请"

        def items(self, predictions):
            return [{"politeness": float("请" in prediction.prediction)} for prediction in predictions]

    METRIC = Politeness()
    NOT_A_METRIC = 1
"""
POLITE = [Prediction("a", "", ("是",), "请休息"), Prediction("b", "", ("否",), "休息")]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, as pip would fill it."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    all_scores.cache_clear()
    yield folder
    all_scores.cache_clear()
    sys.modules.pop("polite_metrics", None)


def install(site: Path, *entries: str, module: str = PLUGIN) -> None:
    (site / "polite_metrics.py").write_text(textwrap.dedent(module), encoding="utf-8")
    info = site / "polite_metrics-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: polite-metrics\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[medqa_finetune.metrics]", *entries, ""]))
    importlib.invalidate_caches()


def polite_run(root: Path) -> Record:
    """A run that was evaluated with the metric of the package, besides the usual ones."""
    done = record()
    assert done.evaluation is not None
    scores = {**done.evaluation.scores, "politeness": Score(0.5, "politeness|word:请")}
    done = done.updated(evaluation=replace(done.evaluation, scores=scores))
    folder = RunDir(root / done.name)
    folder.write(done)
    write_default(folder, done)
    return done


def test_a_metric_of_another_package_scores(site: Path) -> None:
    os.utime(site, (0, 0))  # so that it is changed by what comes, however coarse the clock of the file system
    assert "politeness" not in metric_names()
    install(site, "politeness = polite_metrics:METRIC")
    assert "politeness" in metric_names()
    scored, rows = score_predictions(POLITE, ["rouge", "politeness"])
    assert scored.scores["politeness"] == Score(0.5, "politeness|word:请")
    assert [row["politeness"] for row in rows] == [1.0, 0.0]
    assert [score.name for score in shown_scores(["politeness"])][-1] == "politeness"


@pytest.mark.parametrize("installed", [True, False], ids=["installed", "no longer installed"])
def test_its_score_is_in_tables_and_page(site: Path, tmp_path: Path, installed: bool) -> None:
    if installed:
        install(site, "politeness = polite_metrics:METRIC")
    polite_run(tmp_path / "outputs")
    assert summarize([f"outputs={tmp_path / 'outputs'}"]) == 0
    summary = tmp_path / "outputs" / "summary"
    for name in ("results_summary.csv", "results_by_cell.csv"):
        (row,) = pd.read_csv(summary / name).to_dict("records")
        assert row["politeness" if name == "results_summary.csv" else "politeness_mean"] == 0.5
    page = (summary / "report.html").read_text(encoding="utf-8")
    assert ("Politeness" in page) is installed
    assert ("0.500" if installed else "0.50") in page
    assert "heat_politeness" in page


def test_nothing_but_the_name_is_known_of_an_unknown_score() -> None:
    unknown = describe("unheard_of")
    assert (unknown.words_in("zh").axis, unknown.better, unknown.limits) == (
        "unheard_of", Better.NEITHER, (float("-inf"), float("inf")),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "module"),
    [
        ("polite_metrics:NOT_A_METRIC", PLUGIN),
        ("polite_metrics:MISSING", PLUGIN),
        ("polite_metrics:METRIC", "import nothing_of_this_name"),
        ("polite_metrics:METRIC", PLUGIN.replace('"politeness", Better', '"a/b", Better')),
    ],
)
def test_a_broken_package_is_refused_where_asked_for(site: Path, entry: str, module: str) -> None:
    install(site, f"politeness = {entry}", module=module)
    with pytest.raises(ConfigError) as caught:
        find_metric("politeness")
    assert (only_fault(caught).code, only_fault(caught).got) == ("not-a-metric", "politeness")
    # A report needs none of it, and shows the rest.
    assert "rougeL" in all_scores()
    assert "politeness" not in all_scores()


def test_a_shipped_metric_cannot_be_replaced(site: Path) -> None:
    install(site, "rouge = polite_metrics:METRIC")
    assert find_metric("rouge").names == ("rouge1", "rouge2", "rougeL")


def test_two_metrics_cannot_have_one_score(site: Path) -> None:
    install(site, "politeness = polite_metrics:METRIC", module=PLUGIN.replace("politeness", "rougeL"))
    with pytest.raises(ConfigError) as caught:
        score_predictions(POLITE, ["rouge", "politeness"])
    assert (only_fault(caught).code, only_fault(caught).got) == ("repeated", "rougeL")
