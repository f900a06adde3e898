"""Lists the kinds of charts: those of this package, and those that installed packages add.

A kind of chart is a function that takes a `ChartInput` and yields `Chart`s. Adding one here takes a file and a line in
`BUILT_IN`. Another package declares it as an entry point, without a change here:

    [project.entry-points."medqa_finetune.charts"]
    my_chart = "my_package.charts:my_chart"

Its charts have the section `more`, or any other of `figures.base.SECTIONS`.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points

from medqa_finetune.errors import ConfigError, Fault
from medqa_finetune.report.figures import by_group, costs, curves, heatmap, pareto, score_vs_size, significance, swept
from medqa_finetune.report.figures.base import SECTIONS, Chart, ChartInput

ENTRY_POINTS = "medqa_finetune.charts"
ChartKind = Callable[[ChartInput], Iterable[Chart]]
# In page order.
BUILT_IN: tuple[ChartKind, ...] = (
    heatmap.charts,
    by_group.charts,
    score_vs_size.charts,
    swept.charts,
    curves.charts,
    pareto.charts,
    costs.charts,
    significance.charts,
)
# Chart names are file names.
FILE_NAME = re.compile(r"\w[\w.-]*")


def charts_of(given: ChartInput) -> list[Chart]:
    """Return all charts of a group of runs, built-in ones first.

    Raises:
        ConfigError: an installed package's charts cannot be loaded, or one has a duplicate or invalid name, or an
            unknown section.
    """
    found = [chart for kind in BUILT_IN for chart in kind(given)]
    taken = {chart.name for chart in found}
    for name, kind in _added():
        for chart in kind(given):
            _check(chart, name, taken)
            taken.add(chart.name)
            found.append(chart)
    return found


def _added() -> Iterator[tuple[str, ChartKind]]:
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        try:
            yield point.name, point.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                Fault("not-importable", str(error), key=point.name, got=point.value, hint="Reinstall its package.")
            ) from None


def _check(chart: Chart, kind: str, taken: set[str]) -> None:
    if chart.section not in SECTIONS:
        problem = "no such section of the page"
        raise ConfigError(Fault("not-allowed", problem, key=kind, got=chart.section, allowed=SECTIONS))
    if chart.name in taken or not FILE_NAME.fullmatch(chart.name):
        problem = "another chart has this name" if chart.name in taken else "cannot be the name of a file"
        raise ConfigError(Fault("bad-name", problem, key=kind, got=chart.name))
