"""Which form of matplotlib's SVG is relied on; each test draws with the release that is installed."""

import io
import re
import xml.etree.ElementTree as ET
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from medqa_finetune.compat import matplotlib as svgs

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
    return ["".join(text.itertext()) for text in parse(svg).iter(f"{SVG}text")]


def test_without_groups_drops_these_artists_alone(svg: str) -> None:
    assert {"background", "title"} <= ids(svg)
    changed = svgs.without_groups(svg, "background", "title")
    assert ids(svg) - ids(changed) == {"background", "title"}
    assert [text for text in words(svg) if text not in words(changed)] == ["above < all"]


def test_without_strip_moves_the_view_down(svg: str) -> None:
    assert parse(svg).attrib["viewBox"] == "0 0 360 288"
    assert parse(svgs.without_strip(svg, 21.6)).attrib["viewBox"] == "0 21.6 360 266.4"


def test_with_titles_turns_each_gid_into_a_title(svg: str) -> None:
    changed = parse(svgs.with_titles(svg, "hint:"))
    assert [title.text for title in changed.iter(f"{SVG}title")] == TITLES
    assert not [name for name in ids(svgs.with_titles(svg, "hint:")) if name.startswith("hint:")]


def test_element_has_neither_prolog_nor_metadata(svg: str) -> None:
    changed = svgs.element(svg)
    assert parse(changed).tag == f"{SVG}svg"
    assert changed.startswith("<svg")
    assert parse(svg).find(f"{SVG}metadata") is not None
    assert parse(changed).find(f"{SVG}metadata") is None


def test_without_ids_leaves_all_that_are_referred_to(svg: str) -> None:
    changed = svgs.without_ids(svgs.with_titles(svg, "hint:"))
    referred = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", svg))
    assert len(referred) > 2
    assert referred <= ids(changed)
    left = ids(changed) - referred
    assert not [name for name in left if not name.endswith("Collection_1")]
    assert "figure_1" in ids(svg)


def test_without_fonts_names_no_font_and_keeps_the_size(svg: str) -> None:
    assert "font-family" in svg
    changed = svgs.without_fonts(svg)
    assert "font" not in re.sub(r"font-size: [0-9.]+px", "", changed)
    assert changed.count("font-size") == svg.count("font-size") > 0
    assert words(changed) == words(svg)


def test_with_words_finds_every_text(svg: str) -> None:
    seen: list[str] = []

    def change(text: str) -> str | None:
        seen.append(text)
        return "<tspan>训练</tspan><tspan>对</tspan>" if text == "Training pairs" else None

    changed = svgs.with_words(svg, change)
    assert seen == words(svg)
    assert {"Training pairs", "above < all", *TITLES} <= set(seen)
    assert words(changed) == ["训练对" if text == "Training pairs" else text for text in seen]


def test_as_image_has_a_label_and_no_size(svg: str) -> None:
    changed = parse(svgs.as_image(svgs.element(svg), 'a "title" <b> \\1'))
    assert {"width", "height"} <= parse(svg).attrib.keys()
    assert not {"width", "height"} & changed.attrib.keys()
    assert (changed.attrib["role"], changed.attrib["aria-label"]) == ("img", 'a "title" <b> \\1')
    assert changed.attrib["viewBox"] == "0 0 360 288"
