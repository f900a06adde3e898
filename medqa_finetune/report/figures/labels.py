"""Places labels at points: none on another or on a mark, and each plainly at its own.

A label stands next to its point if no other point is as near; otherwise a line leads from it to its point. Positions
are tried in a fixed order, so that the same points give the same picture. adjustText moves labels by simulated forces
instead, and leaves overlaps where points are close (3 of 24 labels in our trial).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text as Drawing

from medqa_finetune.report.figures.base import INK
from medqa_finetune.report.figures.lettering import letter

# Distances from the edge of a mark and sizes, in points of 1/72 inch.
DISTANCES = (2.5, 7, 12, 18, 26, 36, 48, 62, 80, 100, 125)
DIRECTIONS = tuple(math.radians(angle) for angle in (20, -20, 0, 90, -90, 160, -160, 180, 50, -50, 130, -130))
# Without a line, a label is this near to its mark, and by this much nearer than to any other.
NEAR, NEARER = 4.0, 3.0
# A label with a line costs as much as one that stands this much further away; so does one across a drawn line.
LINE_COST, CROSSING_COST = 5.0, 14.0
# Share of the axes that labels may fill, so that all find a place.
FILLED = 0.3
FONT_SIZE = 8.0
GRID_STEP = 5.0
SAME = 1.0

Place = tuple[float, float]
Segment = tuple[Place, Place]
Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class LabelledPoint:
    """A point in data coordinates with its label; `radius` is that of its mark, in points."""

    x: float
    y: float
    label: str
    radius: float = 5.0


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "Box") -> bool:
        """Return whether both share more than an edge."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def within(self, other: "Box") -> bool:
        """Return whether the other contains it."""
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.bottom <= self.bottom
            and self.top <= other.top
        )

    def nearest(self, place: Place) -> Place:
        """Return its point that is nearest to a place."""
        return min(max(place[0], self.left), self.right), min(max(place[1], self.bottom), self.top)

    def crossed_by(self, segment: Segment) -> bool:
        """Return whether a line passes through it."""
        corners = [(self.left, self.bottom), (self.right, self.bottom), (self.right, self.top), (self.left, self.top)]
        sides = zip(corners, [*corners[1:], corners[0]], strict=True)
        inside = self.nearest(segment[0]) == segment[0] or self.nearest(segment[1]) == segment[1]
        return inside or any(cross(side, segment) for side in sides)


@dataclass(frozen=True)
class _Mark:
    at: Place
    radius: float

    @property
    def box(self) -> Box:
        (x, y), radius = self.at, self.radius
        return Box(x - radius, y - radius, x + radius, y + radius)


@dataclass
class _Layout:
    """The marks, and what is placed so far; in pixels, of which `unit` make a point of 1/72 inch."""

    space: Box
    marks: list[_Mark]
    avoided: list[Segment]
    unit: float
    labels: list[Box]
    lines: list[Segment]

    def best(self, own: int, size: Place) -> tuple[Box, Segment | None] | None:
        """Return the cheapest place of a label of a width and height, and its line; None if there is no room."""
        found: tuple[float, Box, Segment | None] | None = None
        for distance, box in self._nearby(own, size):
            if found is not None and distance >= found[0]:
                break
            line = None if self._stands_alone(own, box) else self._line(own, box)
            crossings = sum(box.crossed_by(each) for each in self.avoided)
            cost = distance + LINE_COST * (line is not None) + CROSSING_COST * crossings
            if (found is None or cost < found[0]) and self._is_free(own, box, line, strict=True):
                found = cost, box, line
        if found is not None:
            return found[1:]
        for box in self._anywhere(own, size):
            line = self._line(own, box)
            if self._is_free(own, box, line, strict=False):
                return box, line
        return None

    def _nearby(self, own: int, size: Place) -> Iterator[tuple[float, Box]]:
        (x, y), radius = self.marks[own].at, self.marks[own].radius
        width, height = size
        for distance in DISTANCES:
            reach = radius + distance * self.unit
            for angle in DIRECTIONS:
                across, up = math.cos(angle), math.sin(angle)
                left = x + across * reach - (0 if across > 0.3 else width if across < -0.3 else width / 2)
                bottom = y + up * reach - (0 if up > 0.4 else height if up < -0.4 else height / 2)
                yield distance, Box(left, bottom, left + width, bottom + height)

    def _anywhere(self, own: int, size: Place) -> list[Box]:
        width, height = size
        step = GRID_STEP * self.unit
        columns = math.floor((self.space.right - self.space.left - width) / step) + 1
        rows = math.floor((self.space.top - self.space.bottom - height) / step) + 1
        corners = [
            (self.space.left + column * step, self.space.bottom + row * step)
            for column in range(columns)
            for row in range(rows)
        ]
        boxes = [Box(left, bottom, left + width, bottom + height) for left, bottom in corners]
        at = self.marks[own].at
        return sorted(boxes, key=lambda box: math.dist(at, box.nearest(at)))

    def _stands_alone(self, own: int, box: Box) -> bool:
        mark = self.marks[own]
        distance = math.dist(mark.at, box.nearest(mark.at))
        others = (math.dist(each.at, box.nearest(each.at)) for each in self._others(own))
        near = distance <= mark.radius + NEAR * self.unit
        return near and all(each >= distance + NEARER * self.unit for each in others)

    def _others(self, own: int) -> Iterator[_Mark]:
        at = self.marks[own].at
        return (each for each in self.marks if math.dist(each.at, at) > SAME * self.unit)

    def _line(self, own: int, box: Box) -> Segment:
        mark = self.marks[own]
        end = box.nearest(mark.at)
        length = math.dist(mark.at, end) or 1.0
        share = min(1.0, mark.radius * 0.8 / length)
        start = (mark.at[0] + share * (end[0] - mark.at[0]), mark.at[1] + share * (end[1] - mark.at[1]))
        return start, end

    def _is_free(self, own: int, box: Box, line: Segment | None, *, strict: bool) -> bool:
        if not box.within(self.space) or any(box.overlaps(each) for each in self.labels):
            return False
        if any(box.overlaps(mark.box) for mark in self.marks) or any(box.crossed_by(each) for each in self.lines):
            return False
        if line is None:
            return True
        if any(each.crossed_by(line) for each in self.labels):
            return False
        passes = any(cross(line, each) for each in self.lines)
        passes = passes or any(mark.box.crossed_by(line) for mark in self._others(own))
        return not (strict and passes)


def cross(first: Segment, second: Segment) -> bool:
    """Return whether two lines cross."""

    def side(line: Segment, place: Place) -> float:
        (x, y), (to_x, to_y) = line
        return (to_x - x) * (place[1] - y) - (to_y - y) * (place[0] - x)

    apart = side(first, second[0]) * side(first, second[1]), side(second, first[0]) * side(second, first[1])
    return apart[0] < 0 and apart[1] < 0


def label_points(axes: Axes, points: Sequence[LabelledPoint], avoided: Sequence[Segment] = ()) -> list[str]:
    """Draw the labels of points whose marks are drawn; return those for which there is no room.

    The layout must be final, since the labels keep their distance in pixels.

    Args:
        axes: Axes that show the points.
        points: All points with marks; one without a label, "", is kept free all the same.
        avoided: Lines, in data coordinates, that labels avoid if they can.
    """
    # Limits that are still to be computed are not in `transData`, and the lines to labels must not change them.
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    figure = axes.get_figure(root=True)
    unit = (figure.dpi if figure is not None else 72.0) / 72
    to_pixels, box = axes.transData.transform, axes.bbox
    marks = [_Mark(_place(to_pixels((point.x, point.y))), point.radius * unit) for point in points]
    lines = [(_place(to_pixels(start)), _place(to_pixels(end))) for start, end in avoided]
    layout = _Layout(Box(box.x0, box.y0, box.x1, box.y1), marks, lines, unit, [], [])
    missing = []
    for own in _most_crowded_first(marks, unit):
        if not points[own].label:
            continue
        drawing = axes.text(0, 0, points[own].label, fontsize=FONT_SIZE, va="bottom", ha="left", linespacing=1.05)
        letter(drawing)
        extent = drawing.get_window_extent()
        found = layout.best(own, (extent.width + unit, extent.height + unit))
        if found is None:
            drawing.remove()
            missing.append(points[own].label)
            continue
        _draw(axes, drawing, *found, unit=unit)
        layout.labels.append(found[0])
        layout.lines += [found[1]] if found[1] is not None else []
    return missing


def height_for(labels: Sequence[str], width: float, least: float) -> float:
    """Return the height of axes, in inches, in which these labels have room; `width` and `least` in inches."""
    lines = [line for label in labels for line in label.split("\n")]
    # A Chinese character is as wide as the font is high, a Latin one about 0.6 of it.
    wide = sum(sum(1.0 if ord(letter) > 0x2E7F else 0.6 for letter in line) for line in lines)
    area = wide * 1.35 * (FONT_SIZE / 72) ** 2
    return max(least, area / FILLED / width)


def _draw(axes: Axes, drawing: Drawing, box: Box, line: Segment | None, *, unit: float) -> None:
    to_data = axes.transData.inverted().transform
    drawing.set_position(_place(to_data((box.left + unit / 2, box.bottom + unit / 2))))
    if line is not None:
        (x, y), (to_x, to_y) = (_place(to_data(end)) for end in line)
        axes.plot([x, to_x], [y, to_y], color=INK, linewidth=0.6, alpha=0.7, scalex=False, scaley=False, zorder=1.9)


def _most_crowded_first(marks: Sequence[_Mark], unit: float) -> list[int]:
    def neighbours(own: int) -> int:
        return sum(math.dist(each.at, marks[own].at) < 60 * unit for each in marks)

    return sorted(range(len(marks)), key=lambda own: (-neighbours(own), own))


def _place(pair: Array) -> Place:
    return float(pair[0]), float(pair[1])
