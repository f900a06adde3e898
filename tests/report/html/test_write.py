import base64
import dataclasses
import hashlib
import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from markupsafe import escape
from matplotlib.figure import Figure
from PIL import Image

from medqa_finetune.config.labels import method_label
from medqa_finetune.record.schema import Record, Score
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.figures import write
from medqa_finetune.report.messages import text
from medqa_finetune.report.notes import AnswersOfCells, CellsCut, GroupName, NoPredictions
from medqa_finetune.report.stats.intervals import Settings
from tests.report.builders import failed, matrix, record
from tests.report.folders import MARKUP, NASTY, SCRIPT, analysis, write_folders, write_page

NAMES = [each.name for each in matrix()]
NOTHING = Analysis(Settings(), (), (), (), (), ())


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the texts of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data


def report(
    root: Path, records: list[Record] | None = None, what: Analysis | None = None, **amounts: int
) -> tuple[str, Elements]:
    """Write the folders of records (those of `matrix`, if None) and their page."""
    write_folders(root, matrix() if records is None else records, **amounts)
    return reread(root, what)


def reread(root: Path, what: Analysis | None = None) -> tuple[str, Elements]:
    """Write the page of the folders that are there."""
    page = write_page(root, analysis(NAMES) if what is None else what).read_text(encoding="utf-8")
    elements = Elements()
    elements.feed(page)
    return page, elements


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of `matrix` and their page, which tests only read."""
    folder = tmp_path_factory.mktemp("matrix")
    report(folder)
    return folder


@pytest.fixture(scope="module")
def usual(root: Path) -> tuple[str, Elements]:
    """The page of `matrix`, and its elements."""
    page = (root / "summary" / "report.html").read_text(encoding="utf-8")
    elements = Elements()
    elements.feed(page)
    return page, elements


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts without marks, for tests that look at the page and the data: to draw them takes most of the time."""
    monkeypatch.setattr(write, "figure_of", lambda chart, _lettering: Figure(figsize=(1, 1)))


def data_of(elements: Elements) -> Any:
    return json.loads(elements.scripts[0])


def test_nothing_is_fetched(usual: tuple[str, Elements]) -> None:
    page, elements = usual
    for tag, attributes in elements.found:
        assert tag not in ("iframe", "object", "embed", "base"), tag
        for name in ("src", "href", "xlink:href", "data"):
            link = attributes.get(name) or ""
            # In the page, or, as a link to click, a file next to it.
            assert link.startswith(("#", "data:,")) or not link or (tag == "a" and link.startswith("figures/")), link
    assert "url(" not in re.sub(r"url\(#[^)]*\)", "", page)
    assert "@import" not in page


def test_every_figure_is_there_as_png_svg_and_csv(root: Path, usual: tuple[str, Elements]) -> None:
    page, elements = usual
    links = {attributes["href"] for tag, attributes in elements.found if (attributes.get("href") or "").startswith("f")}
    files = {path.relative_to(root / "summary").as_posix() for path in (root / "summary/figures").iterdir()}
    assert links == files
    stems = {Path(file).stem for file in files}
    assert {"heat_rougeL", "heat_bleu", "rougeL_by_data_size", "training_loss_over_steps", "training_loss_over_tokens",
            "validation_loss_over_steps", "validation_loss_over_tokens", "peak_vram_gib", "train_seconds",
            "train_tokens_per_second", "rougeL_by_hours", "rougeL_differences"} <= stems  # fmt: skip
    for stem in stems:
        with Image.open(root / f"summary/figures/{stem}.png") as image:
            image.load()
        assert (root / f"summary/figures/{stem}.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")
        assert len(pd.read_csv(root / f"summary/figures/{stem}.csv")) > 0
    assert page.count('<svg role="img"') == len(stems)


def test_the_data_behind_a_figure(root: Path) -> None:
    table = pd.read_csv(root / "summary/figures/rougeL_by_data_size.csv").set_index("cell")
    columns = table[["train_size", "rougeL", "low", "high"]]
    assert list(columns.loc["lora_20k"]) == [20000, 24.35, 20.0, 30.0]
    curve = pd.read_csv(root / "summary/figures/training_loss_over_tokens.csv")
    # 4,000,000 tokens in 1,250 steps.
    assert curve[curve["cell"] == "qlora_50k"]["tokens"].tolist() == [32000.0, 64000.0, 96000.0]


def test_model_text_stays_text(usual: tuple[str, Elements]) -> None:
    page, elements = usual
    assert len(elements.scripts) == 2
    assert SCRIPT not in page
    assert [tag for tag, _ in elements.found].count("script") == 2
    assert not [tag for tag, attributes in elements.found if any(name.startswith("on") for name in attributes)]
    answers = {answer for item in data_of(elements)[0]["items"] for answer in item[3]}
    assert {text for text in NASTY if len(text) < 1000} <= answers
    assert MARKUP not in page
    assert page.count(html.escape(MARKUP)) >= 8


def test_names_from_records_are_escaped_too(tmp_path: Path) -> None:
    odd = [record("lora", "20k"), record("qlora", "20k", name="x<img src=x>", model="<i>m</i>")]
    page, _ = report(tmp_path, odd, NOTHING)
    assert "<img" not in page
    assert "<i>m" not in page


def test_only_the_pages_own_script_may_run(usual: tuple[str, Elements]) -> None:
    _, elements = usual
    policy = next(a["content"] or "" for tag, a in elements.found if a.get("http-equiv") == "Content-Security-Policy")
    own = base64.b64encode(hashlib.sha256(elements.scripts[1].encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{own}'" in policy


def test_everything_is_said_in_both_languages(usual: tuple[str, Elements]) -> None:
    page, _ = usual
    assert page.count('class="en"') == page.count('class="zh"')
    assert "训练问答对数" in page
    # The answer, a step, a fit, a caption and a note: all that the made-up analysis found.
    whole = analysis(NAMES)
    (verdict,) = whole.verdicts
    for outcome in (verdict.advice, verdict.caution, *verdict.steps, *verdict.fit, *whole.notes):
        for words in (text(outcome).en, text(outcome).zh):
            assert str(escape(words)) in page
    # A front's caption has the names of the chart's own labels.
    for front in verdict.pareto:
        assert str(escape(text(front, {name: cell_label(name) for name in NAMES}).zh)) in page


def cell_label(name: str) -> str:
    method, _, size = name.partition("_")
    return " ".join(filter(None, (method_label(method), size)))


@pytest.mark.slow
def test_a_second_time_gives_the_same_files(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    before = {path: path.read_bytes() for path in (tmp_path / "summary").rglob("*.*")}
    assert len(before) > 40
    for left in ("gone.csv", ".writing-heat_bleu.png-x1"):
        (tmp_path / "summary/figures" / left).write_text("of a run that is gone, or torn", encoding="utf-8")
    reread(tmp_path)
    assert {path: path.read_bytes() for path in (tmp_path / "summary").rglob("*.*")} == before


def test_a_page_without_anything_done(tmp_path: Path) -> None:
    records = [failed("lora", "20k")]
    page, elements = report(tmp_path, records, NOTHING)
    assert "OutOfMemoryError: CUDA out of memory at step 12" in page
    assert data_of(elements) == []
    assert not (tmp_path / "summary" / "figures").exists()


@pytest.mark.usefixtures("blank")
def test_runs_without_predictions_or_log(tmp_path: Path) -> None:
    write_folders(tmp_path, matrix())
    for path in [*tmp_path.rglob("predictions.jsonl"), *tmp_path.rglob("metrics.jsonl"), *tmp_path.rglob("*.npz")]:
        path.unlink()
    page, elements = reread(tmp_path, NOTHING)
    assert data_of(elements) == [{"cells": [], "scores": [], "titles": {}, "items": []}]
    assert text(NoPredictions("LoRA 20k")).en in page


@pytest.mark.usefixtures("blank")
def test_groups_that_do_not_compare_are_apart(tmp_path: Path) -> None:
    other = record("lora", "20k", name="other", identity="other", model="tiny")
    page, elements = report(tmp_path, [*matrix(), other], NOTHING)
    assert len(data_of(elements)) == 2
    assert '<select id="group">' in page
    assert (tmp_path / "summary/figures/1_heat_rougeL.csv").exists()
    assert (tmp_path / "summary/figures/2_heat_rougeL.csv").exists()


@pytest.mark.slow
def test_long_and_odd_names_draw_without_warning(tmp_path: Path) -> None:
    settings = "__".join(f"method.quite_long_name_of_a_key_{n}=0.00{n}" for n in range(6))
    names = [f"lora_20k__{settings}", "lora_20k__note=$x_1$ & <b>", "qlora_20k__备注=医学"]
    records = [record("lora", "20k", name=name.replace("/", ""), identity=name) for name in names]
    page, _ = report(tmp_path, records, NOTHING)
    assert page.count('<svg role="img"') == len(list((tmp_path / "summary/figures").glob("*.svg")))


@pytest.mark.usefixtures("blank")
def test_many_cells_are_cut_and_it_is_said(tmp_path: Path) -> None:
    records = [record("lora", "20k", name=f"lora_20k__rank={n}", identity=str(n)) for n in range(40)]
    records = [each.updated(config=each.config | {"train": {"rank": n}}) for n, each in enumerate(records)]
    page, elements = report(tmp_path, records, NOTHING, count=2)
    assert text(CellsCut(GroupName("", "qwen2.5-3b", "huatuo26m_lite", 1000, "1f2e1f2e"), 36, 40)).en in page
    assert len(data_of(elements)[0]["cells"]) == 12
    assert text(AnswersOfCells(12, 36)).en in page


@pytest.mark.slow
def test_six_cells_of_a_thousand_long_answers_stay_below_eight_megabytes(tmp_path: Path) -> None:
    _, elements = report(tmp_path, matrix()[1:], NOTHING, count=1000, length=400)
    assert (tmp_path / "summary/report.html").stat().st_size < 8e6
    assert 500 < len(data_of(elements)[0]["items"]) < 1000


@pytest.mark.usefixtures("blank")
def test_every_score_can_be_chosen_and_the_usual_ones_are_shown_first(tmp_path: Path) -> None:
    more = {"lf_bleu4": 12.0, "char_bleu2": 30.0, "distinct2": 0.4, "leaked_tokens": 0.0}
    records = []
    for place, each in enumerate(matrix()):
        assert each.evaluation is not None
        scores = each.evaluation.scores | {name: Score(value + place, name) for name, value in more.items()}
        records.append(each.updated(evaluation=dataclasses.replace(each.evaluation, scores=scores)))
    page, elements = report(tmp_path, records)
    figures = [(each["data-score"], "hidden" in each) for tag, each in elements.found if tag == "figure"
               if "data-score" in each]  # fmt: skip
    usual = ["rougeL", "bleu", "perplexity"]
    heat = figures[: len(usual) + len(more)]
    assert [score for score, hidden in heat if not hidden] == usual
    assert {score for score, hidden in heat if hidden} == set(more)
    values = [each["value"] for tag, each in elements.found if tag == "option" and "value" in each]
    assert {"rougeL bleu perplexity", *usual, *more} <= set(values)
    assert "泄漏的特殊词元" in page
    # Of data size and differences, the two headline scores come first.
    assert ("lf_bleu4", True) in figures[len(heat) :]
    assert ("rougeL", False) in figures[len(heat) :]
    assert (tmp_path / "summary" / "figures" / "heat_lf_bleu4.csv").is_file()


@pytest.mark.usefixtures("blank")
def test_where_no_usual_score_was_asked_for_the_others_are_shown(tmp_path: Path) -> None:
    records = []
    for each in matrix():
        assert each.evaluation is not None
        records.append(
            each.updated(evaluation=dataclasses.replace(each.evaluation, scores={"lf_bleu4": Score(9.0, "lf")}))
        )
    _, elements = report(tmp_path, records, NOTHING)
    shown = [each["data-score"] for tag, each in elements.found if "data-score" in each and "hidden" not in each]
    assert shown == ["lf_bleu4", "lf_bleu4"]
