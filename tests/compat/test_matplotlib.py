"""Which form of matplotlib's SVG is relied on; each test draws with the release that is installed."""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from medqa_finetune.compat.matplotlib import SvgImage

SVG = "{http://www.w3.org/2000/svg}"
# All that may stand in a title: matplotlib quotes an id that holds a double quote in another way.
TITLES = ["lora 20k", "a <b> & c", 'method.name="x"', "it's"]


@pytest.fixture(scope="module")
def svg() -> str:
    """A picture of 5 x 4 inches with marks, lines, an area, a legend, words to escape, and all that gets a gid."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "salt", "axes.grid": True}):
        figure = Figure(figsize=(5, 4))
        figure.patch.set_gid("background")
        axes = figure.add_subplot()
        for place, title in enumerate(TITLES):
            (line,) = axes.plot([0, 1], [place, 1], marker="o", label=title)
            line.set_gid("hint:" + title)
        axes.scatter([0, 1], [1, 0])
        axes.fill_between([0, 1], [0, 0], [1, 1], alpha=0.5)
        axes.errorbar([0], [1], yerr=[0.5])
        axes.set_xlabel("Training pairs")
        axes.legend()
        figure.text(0.5, 0.9, "above < all", gid="title")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue().decode()


def ids(svg: str) -> set[str]:
    return {element.attrib["id"] for element in parse(svg).iter() if "id" in element.attrib}


def parse(svg: str) -> Any:
    return ET.fromstring(svg)  # noqa: S314 (of our own making)


def words(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in parse(svg).iter() if text.tag.endswith("text")]


def page(svg: str, change: Callable[[str], list[tuple[str, str]]] = lambda words: []) -> str:
    return SvgImage(svg.encode()).add_titles("hint:").as_html('a "title" <b>', change)


def test_removing_drops_these_artists_alone(svg: str) -> None:
    assert {"background", "title"} <= ids(svg)
    changed = SvgImage(svg.encode()).remove("background", "title").as_file().decode()
    assert ids(svg) - ids(changed) == {"background", "title"}
    assert [text for text in words(svg) if text not in words(changed)] == ["above < all"]


def test_cropping_moves_the_view_down(svg: str) -> None:
    assert parse(svg).attrib["viewBox"] == "0 0 360 288"
    assert parse(SvgImage(svg.encode()).crop_top(21.6).as_file().decode()).attrib["viewBox"] == "0 21.6 360 266.4"


def test_each_gid_becomes_a_title(svg: str) -> None:
    changed = SvgImage(svg.encode()).add_titles("hint:").as_file().decode()
    titles = [title.text for title in parse(changed).iter(f"{SVG}title")]
    assert titles == TITLES
    assert not [name for name in ids(changed) if name.startswith("hint:")]


def test_a_file_read_and_written_again_is_the_same_image(svg: str) -> None:
    again = SvgImage(svg.encode()).as_file().decode()
    assert ET.canonicalize(again) == ET.canonicalize(svg)
    assert "ns0:" not in again


def test_in_a_page_there_is_neither_prolog_nor_metadata(svg: str) -> None:
    changed = page(svg)
    assert changed.startswith('<svg role="img" aria-label="a &quot;title&quot; &lt;b&gt;"')
    assert parse(svg).find(f"{SVG}metadata") is not None
    assert not [element.tag for element in parse(declared(changed)).iter() if "metadata" in element.tag]


def declared(html: str) -> str:
    """As XML, which wants the namespace that HTML knows by itself."""
    return html.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1)


def test_in_a_page_only_ids_that_are_referred_to_are_left(svg: str) -> None:
    referred = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", svg))
    assert len(referred) > 2
    assert ids(declared(page(svg))) == referred
    assert "figure_1" in ids(svg)


def test_in_a_page_no_font_is_named_and_the_size_is_kept(svg: str) -> None:
    assert "font-family" in svg
    changed = page(svg)
    assert "font" not in re.sub(r"font-size: [0-9.]+px", "", changed)
    assert changed.count("font-size") == svg.count("font-size") > 0
    assert words(declared(changed)) == words(svg)


def test_in_a_page_every_text_can_be_translated(svg: str) -> None:
    seen: list[str] = []

    def change(text: str) -> list[tuple[str, str]]:
        seen.append(text)
        return [("en", "training"), ("zh", "训练 <对>")] if text == "Training pairs" else []

    changed = page(svg, change)
    assert seen == words(svg)
    assert {"Training pairs", "above < all", *TITLES} <= set(seen)
    assert '<tspan class="en">training</tspan><tspan class="zh">训练 &lt;对&gt;</tspan></text>' in changed


def test_in_a_page_the_image_has_no_size(svg: str) -> None:
    changed = parse(declared(page(svg)))
    assert {"width", "height"} <= parse(svg).attrib.keys()
    assert not {"width", "height"} & changed.attrib.keys()
    assert changed.attrib["viewBox"] == "0 0 360 288"
