"""Edits the SVG that matplotlib writes, as XML.

Only that a `gid` becomes the `id` of a group is documented, not how elements, attributes and other ids are written;
each method states what it relies on.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from typing import Self

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
# matplotlib's prefixes, so that they are kept when a file is read and written.
NAMESPACES = {
    "": SVG,
    "xlink": XLINK,
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "cc": "http://creativecommons.org/ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
}
for _prefix, _uri in NAMESPACES.items():
    ET.register_namespace(_prefix, _uri)


class SvgImage:
    """A matplotlib figure as SVG."""

    def __init__(self, svg: bytes) -> None:
        self._root = ET.fromstring(svg)  # noqa: S314 (matplotlib wrote it a moment ago)

    def add_titles(self, prefix: str) -> Self:
        """Move the rest of each gid that begins with `prefix` to a title of its group, and remove the id.

        Browsers show titles as tooltips.
        """
        for group in self._root.iter(_svg("g")):
            gid = group.get("id", "")
            if gid.startswith(prefix):
                del group.attrib["id"]
                title = ET.Element(_svg("title"))
                title.text, title.tail, group.text = gid.removeprefix(prefix), group.text, None
                group.insert(0, title)
        return self

    def remove(self, *gids: str) -> Self:
        """Remove the artists with these gids, each of which is a group."""
        for parent in list(self._root.iter()):
            for child in [child for child in parent if child.get("id") in gids]:
                parent.remove(child)
        return self

    def crop_top(self, points: float) -> Self:
        """Crop the top by `points`: the root's `viewBox` is the figure's, in points, from 0."""
        left, top, width, height = self._root.attrib["viewBox"].split()
        self._root.set("viewBox", f"{left} {float(top) + points:g} {width} {float(height) - points:g}")
        return self

    def as_file(self) -> bytes:
        """Return the content of an SVG file, in UTF-8."""
        file: bytes = ET.tostring(self._root, encoding="utf-8", xml_declaration=True)
        return file + b"\n"

    def as_html(self, label: str, translated: Callable[[str], Sequence[tuple[str, str]]]) -> str:
        """Return the image as an element of an HTML page; the object cannot be used afterwards.

        The element takes the available width, sets no font, and keeps only referenced ids, which are made from
        `svg.hashsalt`.

        Args:
            label: Text for screen readers.
            translated: Takes a text and returns class and words of each version to show instead; empty to keep the
                text. With `svg.fonttype` none a text is one element that contains only its words.
        """
        root = self._root
        for metadata in root.findall(_svg("metadata")):
            root.remove(metadata)
        referred = _referred(root)
        for element in root.iter():
            if element.get("id") not in referred:
                element.attrib.pop("id", None)
            if "style" in element.attrib:
                element.set("style", _without_fonts(element.attrib["style"]))
            if element.tag == _svg("text"):
                _replace_words(element, translated(element.text or ""))
        size = {name: value for name, value in root.attrib.items() if name not in ("width", "height")}
        root.attrib.clear()
        root.attrib.update({"role": "img", "aria-label": label} | size)
        # In HTML, SVG elements have no namespace prefix.
        for element in root.iter():
            element.tag = element.tag.replace(f"{{{SVG}}}", "")
            for name in [name for name in element.attrib if name.startswith(f"{{{XLINK}}}")]:
                element.set(f"xlink:{name.removeprefix(f'{{{XLINK}}}')}", element.attrib.pop(name))
        return ET.tostring(root, encoding="unicode")


def _svg(tag: str) -> str:
    return f"{{{SVG}}}{tag}"


def _referred(root: ET.Element) -> set[str]:
    """Return the ids that attributes refer to, as `url(#id)` or as a whole link."""
    links = [value for element in root.iter() for value in element.attrib.values() if "#" in value]
    return {part.partition(")")[0] for link in links for part in link.split("#")[1:]}


def _without_fonts(style: str) -> str:
    kept = [each.strip() for each in style.split(";") if not each.strip().startswith("font-family")]
    return "; ".join(filter(None, kept))


def _replace_words(text: ET.Element, versions: Sequence[tuple[str, str]]) -> None:
    if versions:
        text.text = None
        for name, words in versions:
            ET.SubElement(text, _svg("tspan"), {"class": name}).text = words
