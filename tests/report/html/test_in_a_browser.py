"""The report as a reader has it: opened in a real browser, clicked and typed into."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medqa_finetune.report.notes import TrainedOnce
from tests.report.builders import matrix
from tests.report.folders import SCRIPT, analysis, write_folders, write_page
from tests.report.html.browser import Opened, browser, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [
    pytest.mark.slow,
    # Of playwright's own event loop, when the browser is closed.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
WIDE, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
QUESTIONS = 1000


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_folders(root, matrix(), QUESTIONS)
    return write_page(root, analysis([record.name for record in matrix()]))


@pytest.fixture(scope="module")
def chromium() -> "Iterator[Browser]":
    with browser() as launched:
        yield launched


@pytest.fixture
def page(chromium: "Browser", report: Path) -> Iterator[Opened]:
    found = opened(chromium, report, viewport=WIDE, locale="en-US")
    yield found
    # Whatever was done with it: nothing was fetched but the file itself, and nothing went wrong.
    assert found.requests == [report.as_uri()]
    assert found.complaints == []
    assert found.page.title() == "medqa_finetune – report · 报告"
    found.page.close()


def count(page: Opened) -> int:
    return int(re.sub(r"\D", "", (page.page.inner_text("#count").split(" of ")[0])))


def wait_for_items(page: Opened, number: int) -> None:
    from playwright.sync_api import expect

    # Not `wait_for_function`: it evaluates text, which the page's policy forbids.
    expect(page.page.locator("#list .item")).to_have_count(number)


def means(page: Opened) -> list[float]:
    return [float(text.split()[1]) for text in page.page.locator(".item .id span").all_inner_texts()]


def ranges(page: Opened) -> list[float]:
    return [float(text.split()[-1]) for text in page.page.locator(".item .id span").all_inner_texts()]


def test_opens_with_everything_and_shows_one_page_of_questions(page: Opened) -> None:
    assert count(page) == QUESTIONS
    assert page.page.locator("#list .item").count() == 10
    assert page.page.locator("#where").inner_text() == "1 / 100"
    assert page.page.locator("svg[role=img]").count() > 12
    assert page.page.locator("figure:visible").count() == page.page.locator("figure:not([hidden])").count() > 12


def test_the_language_switch(page: Opened) -> None:
    chart = page.page.locator("figure svg text", has_text="Training pairs").first
    assert page.page.get_by_role("heading", name="Predictions side by side").is_visible()
    assert chart.locator(".en").is_visible()
    page.page.click("#language")
    assert page.page.get_by_role("heading", name="逐题对比预测").is_visible()
    assert not page.page.get_by_role("heading", name="Predictions side by side").is_visible()
    assert chart.locator(".zh").is_visible()
    assert not chart.locator(".en").is_visible()
    assert page.page.locator("#sort option").first.inner_text() == "最差在前"
    assert page.page.locator("#count").inner_text() == "1,000 题中的 1,000 题"
    assert page.page.evaluate("document.documentElement.lang") == "zh-Hans"
    page.page.reload()
    page.requests.pop()
    assert page.page.evaluate("document.documentElement.lang") == "zh-Hans"
    page.page.click("#language")
    assert page.page.get_by_role("heading", name="Predictions side by side").is_visible()


def test_predictions_speak_the_language_of_the_page(page: Opened) -> None:
    page.page.click("#language")
    assert page.page.locator("#of option", has_text="未微调基座").count() == 1
    assert page.page.locator("#cells", has_text="未微调基座").count() == 1
    assert page.page.locator("#list .cell", has_text="未微调基座").count() > 0
    assert page.page.locator(".status", has_text="已完成").count() > 0


def test_the_readers_own_language_comes_first(chromium: "Browser", report: Path) -> None:
    found = opened(chromium, report, locale="zh-CN")
    assert found.page.evaluate("document.documentElement.lang") == "zh-Hans"
    found.page.close()


def test_sorting_predictions(page: Opened) -> None:
    worst = means(page)
    assert worst == sorted(worst)
    page.page.select_option("#sort", "best")
    best = means(page)
    assert best == sorted(best, reverse=True)
    assert best[0] > worst[-1]
    page.page.select_option("#sort", "different")
    assert ranges(page) == sorted(ranges(page), reverse=True)
    page.page.select_option("#sort", "order")
    assert page.page.locator(".item .id bdi").first.inner_text() == "q00000"
    page.page.select_option("#sort", "worst")
    page.page.select_option("#of", label="LoRA 50k")
    assert means(page) == sorted(means(page))
    assert set(ranges(page)) == {0.0}


def test_filtering_predictions(page: Opened) -> None:
    page.page.fill("#search", "第777题")
    wait_for_items(page, 1)
    assert page.page.locator(".item .id bdi").inner_text() == "q00777"
    page.page.fill("#search", "")
    wait_for_items(page, 10)
    page.page.select_option("#show", "limit")
    assert count(page) == len(range(0, QUESTIONS, 7))
    page.page.select_option("#show", "empty")
    # Each of the seven cells has an answer of nothing and one of blanks, each at a place of its own.
    assert 2 <= count(page) <= 12
    page.page.select_option("#show", "all")
    page.page.select_option("#of", label="LoRA 20k")
    page.page.fill("#most", "10")
    assert 40 < count(page) < 200
    assert all(mean <= 10 for mean in means(page))


def test_cells_are_hidden_and_pages_turned(page: Opened) -> None:
    assert page.page.locator(".item").first.locator(".row").count() == 8
    page.page.get_by_label("QLoRA 20k", exact=True).uncheck()
    assert page.page.locator(".item").first.locator(".row").count() == 7
    assert page.page.locator("#previous").is_disabled()
    first = page.page.locator(".item .id bdi").first.inner_text()
    page.page.click("#next")
    assert page.page.locator("#where").inner_text() == "2 / 100"
    assert page.page.locator(".item .id bdi").first.inner_text() != first


def test_a_script_in_an_answer_stays_text(page: Opened) -> None:
    page.page.fill("#search", "document.title = 'stolen'")
    # Every cell's copy of the script, each at a question of its own or several at one.
    page.page.locator(".text", has_text="stolen").first.wait_for()
    page.page.wait_for_timeout(400)
    shown = page.page.locator(".text").all_inner_texts()
    assert SCRIPT in shown
    assert page.page.locator("#list script, #list img").count() == 0
    assert page.page.evaluate("document.scripts.length") == 2


def test_odd_characters_are_shown_by_number_and_stay_in_their_box(page: Opened) -> None:
    page.page.select_option("#sort", "order")
    shown = set(page.page.locator(".hidden-character").all_inner_texts())
    page.page.click("#next")
    shown |= set(page.page.locator(".hidden-character").all_inner_texts())
    assert {"U+202E", "U+200B", "U+D83D", "U+0000", "U+001B"} <= shown
    measured = "[...document.querySelectorAll('.text')].map((box) => [box.clientWidth, box.scrollWidth])"
    boxes = page.page.evaluate(measured)
    assert [box for box in boxes if box[1] > box[0] + 1] == []


def test_what_rouge_counts_is_underlined(page: Opened) -> None:
    page.page.select_option("#sort", "order")
    page.page.fill("#search", "q00500")
    wait_for_items(page, 1)
    # `不` and `，` and `。` and the digits are what the made-up answer has of its reference, in this order.
    row = page.page.locator(".row").nth(1)
    assert "".join(row.locator("mark").all_inner_texts()) == "，500。"
    page.page.locator("#marks").uncheck()
    assert page.page.locator("mark").count() == 0


def test_the_table_sorts_by_a_heading(page: Opened) -> None:
    column = page.page.locator("table.sortable").first
    heading = column.get_by_role("button", name="ROUGE-L")

    def values() -> list[float]:
        return [float(text) for text in column.locator("tbody td:nth-child(2) span").all_inner_texts()]

    heading.click()
    assert values() == sorted(values())
    assert page.page.locator("th[aria-sort=ascending]").inner_text().startswith("ROUGE-L")
    heading.press("Enter")
    assert values() == sorted(values(), reverse=True)


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_the_screen(chromium: "Browser", report: Path, size: dict[str, int], scheme: str) -> None:
    found = opened(chromium, report, viewport=size, color_scheme=scheme)
    assert found.page.evaluate("document.documentElement.scrollWidth") == size["width"]
    ground = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(13, 17, 23)") is (scheme == "dark")
    assert found.complaints == []
    found.page.close()


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_names_of_130_characters_fit_the_screen(chromium: "Browser", tmp_path: Path, size: dict[str, int]) -> None:
    settings = "__data.scale=0.003__train.warmup_ratio=0.1__train.weight_decay=0.01__train.max_gradient_norm=0.5"
    records = [each.updated(name=f"{each.name}{settings}__evaluate.max_new_tokens=48") for each in matrix()]
    names = [record.name for record in records]
    assert max(map(len, names)) >= 130
    write_folders(tmp_path, records, 5)
    whole = analysis(names)
    verdict = whole.verdicts[0]
    verdict = replace(verdict, title=names[1], advice=replace(verdict.advice, unlike=tuple(names)))
    whole = replace(whole, notes=(TrainedOnce(tuple(names)),), verdicts=(verdict,))
    page = opened(chromium, write_page(tmp_path, whole), viewport=size, locale="en-US")
    for _ in range(2):
        assert page.page.evaluate("document.documentElement.scrollWidth") == size["width"]
        page.page.click("#language")
    page.page.close()


def test_everything_is_reached_by_keyboard(page: Opened) -> None:
    reached = set()
    for _ in range(200):
        page.page.keyboard.press("Tab")
        reached.add(page.page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"language", "theme", "search", "sort", "score", "of", "show", "most", "marks", "next", "SUMMARY"} <= reached


def test_every_control_and_picture_has_a_name(page: Opened) -> None:
    nameless = page.page.evaluate(
        "[...document.querySelectorAll('button, input, select, svg[role=img]')].filter((each) => !(each.labels?.length"
        " || each.getAttribute('aria-label') || each.textContent.trim())).length"
    )
    assert nameless == 0


def test_a_thousand_questions_are_found_and_shown_at_once(page: Opened) -> None:
    took = page.page.evaluate(
        "() => { const start = performance.now(); document.getElementById('sort').value = 'different';"
        " document.getElementById('sort').dispatchEvent(new Event('input')); return performance.now() - start; }"
    )
    assert took < 1000


def test_a_score_is_chosen_for_the_heat_map_and_the_usual_ones_come_back(page: Opened) -> None:
    select, figures = page.page.locator("#heat-0"), page.page.locator("#results figure")
    names = select.locator("option").all_inner_texts()
    assert names == ["the usual ones", "ROUGE-L", "BLEU", "Perplexity"]
    assert [figures.nth(place).is_visible() for place in range(3)] == [True, True, True]
    select.select_option("bleu")
    assert [figures.nth(place).is_visible() for place in range(3)] == [False, True, False]
    assert figures.nth(1).locator("h4 .en").inner_text() == "BLEU by method and data size"
    # The other sections have a choice of their own.
    assert page.page.locator("#size figure").first.is_visible()
    select.select_option(label="the usual ones")
    assert [figures.nth(place).is_visible() for place in range(3)] == [True, True, True]
