"""Writes `captions.md`: the captions of all pictures, in both languages, and how the scores in them are defined."""

from collections.abc import Iterator, Sequence

from medqa_finetune.report.figures.base import FIGURES, Chart
from medqa_finetune.report.figures.overview import DATA_SCALE, METHODS
from medqa_finetune.report.grouping import Group
from medqa_finetune.report.messages import label
from medqa_finetune.report.outputs.paper import escaped


def captions_as_markdown(groups: Sequence[Group], charts: Sequence[Chart]) -> str:
    """Format title and caption of every picture, then the signatures of the scores of every group."""
    parts = [f"# {label('captions.title').en} · {label('captions.title').zh}"]
    if groups:
        for name in (DATA_SCALE, METHODS):
            parts.append(f"## {name}")
            for group in groups:
                named, said = group.names.title, group.names.caption
                parts += [escaped(f"{named.en}. {said.en}"), escaped(f"{named.zh}。{said.zh}")]
    for chart in charts:
        parts.append(f"## {FIGURES}/{chart.name}")
        for title, caption in ((chart.title.en, chart.caption.en), (chart.title.zh, chart.caption.zh)):
            parts.append(f"**{escaped(title)}** {escaped(caption)}")
    if groups:
        parts.append(f"## {label('captions.signatures').en} · {label('captions.signatures').zh}")
        for group in groups:
            parts.append("\n".join(_signatures(group)))
    return "\n\n".join(parts) + "\n"


def _signatures(group: Group) -> Iterator[str]:
    yield f"- {escaped(group.names.title.spoken)}, sha256 {group.names.test_set}…"
    for score, signature in sorted(group.names.signatures.items()):
        yield f"  - {escaped(score)}: `{signature}`"
