"""The SVG that matplotlib writes, edited as text.

Only that a `gid` becomes the `id` of a group is documented. How elements, attributes and ids are written is not; each
function says what it relies on.
"""

import html
import re
from collections.abc import Callable

# Ids that the file itself refers to: clip paths and markers (a letter and a hash), and the shapes of collections.
REFERRED = r"[mp][0-9a-f]{10}|C[0-9]_|[A-Za-z]+Collection"


def without_groups(svg: str, *gids: str) -> str:
    """Return an SVG without the artists of these gids: each is a group that holds no other."""
    names = "|".join(map(re.escape, gids))
    return re.sub(rf'<g id="(?:{names})">.*?</g>', "", svg, flags=re.DOTALL)


def without_strip(svg: str, points: float) -> str:
    """Return an SVG whose uppermost points are out of view: the first `viewBox` is the picture's, in points, from 0."""
    return re.sub(
        r'viewBox="0 0 (\S+) ([^"]+)"',
        lambda box: f'viewBox="0 {points:g} {box[1]} {float(box[2]) - points:g}"',
        svg,
        count=1,
    )


def with_titles(svg: str, prefix: str) -> str:
    """Return an SVG in which the rest of each gid that begins with `prefix` is the title of its group, and no id.

    An id stands in double quotes, or in single ones where it holds a double one; in both it is escaped.
    """
    start = re.escape(prefix)
    return re.sub(
        rf"""<g id=(?:"{start}([^"]*)"|'{start}([^']*)')>""",
        lambda group: f"<g><title>{group[1] if group[2] is None else group[2]}</title>",
        svg,
    )


def element(svg: str) -> str:
    """Return the `<svg>` element alone, without what makes it a file of its own, and without metadata."""
    return re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)


def without_ids(svg: str) -> str:
    """Return an SVG without the ids that nothing in it refers to; those that are left come from `svg.hashsalt`."""
    return re.sub(rf' id="(?!{REFERRED})[^"]*"', "", svg)


def without_fonts(svg: str) -> str:
    """Return an SVG that names no font: `font-family` stands in `style` attributes, last without a semicolon."""
    return re.sub(r"\s*font-family: [^;\"]*;?", "", svg)


def with_words(svg: str, change: Callable[[str], str | None]) -> str:
    """Return an SVG in which what `change` returns stands in the place of each text, markup and all.

    With `svg.fonttype` none a text is one `<text>` with its words and nothing else in it, escaped.

    Args:
        svg: To change.
        change: Gets the words, and returns markup, or None to leave them.
    """

    def changed(text: re.Match[str]) -> str:
        markup = change(html.unescape(text[2]))
        return text[0] if markup is None else f"{text[1]}{markup}</text>"

    return re.sub(r"(<text[^>]*>)([^<]*)</text>", changed, svg)


def as_image(svg: str, label: str) -> str:
    """Return an SVG element that is as large as what is around it lets it, and is read out as `label`.

    `width` and `height` stand in its first tag, one after the other.
    """
    name = html.escape(label, quote=True)
    return re.sub(
        r'<svg([^>]*?) width="[^"]*" height="[^"]*"|<svg([^>]*)',
        lambda tag: f'<svg role="img" aria-label="{name}"{tag[1] or ""}{tag[2] or ""}',
        svg,
        count=1,
    )
