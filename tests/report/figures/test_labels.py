"""Labels of points, held to their geometry on points that are as close as a study's."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from medqa_finetune.report.figures.labels import LabelledPoint, height_for, label_points

WIDTH, RADIUS = 4.3, 4.8
METHODS, SIZES = ("lora", "qlora", "dora", "pissa"), ("20k", "50k", "100k")
CELLS = [f"{method} {size}" for method in METHODS for size in SIZES]
LONG = [f"a method of a long name {number}\n(train.epochs=5) 100k" for number in range(12)]


def points_of(places: list[tuple[float, float]], labels: list[str]) -> list[LabelledPoint]:
    return [LabelledPoint(x, y, label, RADIUS) for (x, y), label in zip(places, labels, strict=True)]


def heap(seed: int, count: int) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in np.random.default_rng(seed).normal(5, 1, (count, 2))]


SETS = {
    # Two methods that cost nearly the same, as "lora 20k" and "qlora 20k" do.
    "pairs": points_of([(at + 0.02 * way, 10 + 4 * at + 0.2 * way) for at in (1, 2, 3) for way in (0, 1)], CELLS[:6]),
    "a line": points_of([(1 + 0.002 * at, 20 + 0.05 * at) for at in range(12)], CELLS),
    "a column": points_of([(0.0, 20 + 0.3 * at) for at in range(12)], CELLS),
    "equal": points_of([(1.0, 20.0)] * 4 + [(2.0, 30.0)], CELLS[:5]),
    "a heap": points_of(heap(3, 12), CELLS),
    "long": points_of([(1 + 0.1 * at, 20 + 0.2 * (at % 3)) for at in range(12)], LONG),
    "one": points_of([(1.0, -3.0)], ["lora 20k"]),
    "24": points_of(heap(5, 24), [*CELLS, *(f"{cell} 2" for cell in CELLS)]),
}  # fmt: skip


def axes_with(points: list[LabelledPoint]) -> Axes:
    figure = Figure(figsize=(WIDTH, height_for([point.label for point in points], WIDTH, 3.0)))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.plot([point.x for point in points], [point.y for point in points], "o")
    axes.margins(x=0.18, y=0.12)
    axes.lines[0].remove()
    return axes


def distance(box: Bbox, place: tuple[float, float]) -> float:
    return math.hypot(max(box.x0 - place[0], 0, place[0] - box.x1), max(box.y0 - place[1], 0, place[1] - box.y1))


@pytest.mark.parametrize("name", SETS)
def test_each_label_is_at_its_own_mark(name: str) -> None:
    points = SETS[name]
    axes = axes_with(points)
    assert label_points(axes, points) == []
    places = [tuple(place) for place in axes.transData.transform([(point.x, point.y) for point in points])]
    radius = RADIUS * axes.figure.dpi / 72
    lines = [axes.transData.transform(line.get_xydata()) for line in axes.lines]
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert not [
        pair for pair in combinations([text.get_window_extent() for text in axes.texts], 2) if pair[0].overlaps(pair[1])
    ]
    for text in axes.texts:
        box = text.get_window_extent()
        assert axes.bbox.x0 <= box.x0 <= box.x1 <= axes.bbox.x1
        assert axes.bbox.y0 <= box.y0 <= box.y1 <= axes.bbox.y1
        assert min(distance(box, place) for place in places) > radius * 0.7
    for point, own in zip(points, places, strict=True):
        box = boxes[point.label]
        others = [distance(box, place) for place in places if place != own]
        leads = any(math.dist(line[0], own) <= radius + 1 and distance(box, tuple(line[1])) < 3 for line in lines)
        assert leads or distance(box, own) < min(others, default=math.inf)


def test_the_same_points_give_the_same_picture() -> None:
    drawn = []
    for _ in range(2):
        axes = axes_with(SETS["a heap"])
        label_points(axes, SETS["a heap"])
        drawn.append([text.get_position() for text in axes.texts])
    assert drawn[0] == drawn[1]


def test_labels_avoid_lines_and_say_when_there_is_no_room() -> None:
    points = points_of([(1.0, 1.0), (2.0, 1.0)], ["lora 20k", "lora 50k"])
    axes = axes_with(points)
    label_points(axes, points, [((1.0, 1.0), (2.0, 1.0))])
    line = axes.transData.transform([(1.0, 1.0), (2.0, 1.0)])
    assert not [text for text in axes.texts if text.get_window_extent().y0 < line[0][1] < text.get_window_extent().y1]
    crowded = points_of([(0.1 * at, 1.0) for at in range(3)], ["x" * 300] * 3)
    assert label_points(axes_with(crowded), crowded) == ["x" * 300] * 3


def test_more_labels_make_a_higher_chart() -> None:
    heights = [height_for(CELLS[:count], WIDTH, 0.1) for count in (3, 6, 12)]
    assert all(low < high for low, high in pairwise(heights))
