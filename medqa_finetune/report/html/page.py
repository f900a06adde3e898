"""Renders the page: templates, styles and scripts in one file that fetches nothing."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from medqa_finetune.evaluation.metrics.base import Prominence
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.figures.write import Drawn
from medqa_finetune.report.html.answers import Answers
from medqa_finetune.report.html.reproduce import commands_of, settings_of
from medqa_finetune.report.html.table import Row
from medqa_finetune.report.messages import label, labels_below, score_title, text
from medqa_finetune.report.messages.language import Text
from medqa_finetune.report.messages.sentences import Overview
from medqa_finetune.report.notes import GroupName, Note, RunsCut
from medqa_finetune.report.runs import Run
from medqa_finetune.report.scores import headline_columns, in_order, score_columns, signatures
from medqa_finetune.report.unfinished import state_of
from medqa_finetune.report.verdict import Caution

ASSETS = "assets"
STYLES = ("base.css", "content.css", "browser.css")
SCRIPTS = ("page.js", "text.js", "browser.js")
MOST_RUNS = 300
# Characters that could end or open a script element are written as JSON escapes.
JSON_ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})


@dataclass(frozen=True)
class GroupView:
    """Template data of a group of comparable runs; `charts` by page section, `by_group` by score."""

    name: GroupName
    headings: list[Text]
    rows: list[Row]
    charts: dict[str, list[Drawn]]
    answers: Answers
    by_group: list[tuple[str, list[Text], list[Row]]] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """Template data of the page; `runs` in table order."""

    runs: Sequence[Run]
    analysis: Analysis
    groups: Sequence[GroupView]


def rendered(page: Page) -> bytes:
    """Render the page as UTF-8."""
    loader = PackageLoader(__package__, ASSETS)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = _asset(*SCRIPTS)
    environment.globals |= {
        "label": label,
        "said": partial(text, labels=page.analysis.labels),
        "score_title": score_title,
    }
    html = environment.get_template("page.html.j2").render(
        _content(page),
        script=script,
        script_hash=_csp_hash(script),
        style=_asset(*STYLES),
        data=embedded_json([group.answers.as_data() for group in page.groups]),
        script_words=json.dumps(labels_below("script."), ensure_ascii=False),
    )
    # A lone surrogate, which JSON can hold and UTF-8 cannot, is escaped.
    return html.encode("utf-8", "backslashreplace")


def embedded_json(data: object) -> str:
    """Serialize to JSON that is safe in a script element for any text."""
    written = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return written.translate(JSON_ESCAPES)


def _asset(*names: str) -> str:
    return "\n".join((files(__package__) / ASSETS / name).read_text(encoding="utf-8") for name in names)


def _csp_hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _content(page: Page) -> dict[str, object]:
    verdicts = page.analysis.verdicts
    rows = [
        {
            "place": run.place,
            "state": _state(run),
            "words": label(f"status.{_state(run)}"),
            "reason": run.values.get("reason") or "",
        }
        for run in page.runs[:MOST_RUNS]
    ]
    # Keyed by place: of copies of one run in a study, the last is used.
    records = {run.place: run.record for run in page.runs if run.record is not None}.values()
    commands = commands_of(records)
    shown = in_order(score_columns(run.values.get("signature") for run in page.runs))
    return {
        "overview": _overview(page.runs),
        "verdicts": verdicts,
        "unfinished": page.analysis.unfinished,
        "cautions": list(dict.fromkeys(verdict.caution for verdict in verdicts)) or [Caution.SAFETY],
        "groups": page.groups,
        "notes": [*page.analysis.notes, *_cut(len(page.runs), len(commands))],
        "settings_of_tests": page.analysis.settings,
        "signatures": sorted({pair for run in page.runs for pair in signatures(run.values.get("signature")).items()}),
        "settings": settings_of(records),
        "commands": commands[:MOST_RUNS],
        "runs": rows,
        "headlines": headline_columns(),
        "main_scores": [score.name for score in shown if score.prominence is not Prominence.DETAIL],
    }


def _state(run: Run) -> str:
    return "DONE" if run.done else state_of(run).name


def _overview(runs: Sequence[Run]) -> Overview:
    models, corpora = (
        tuple(dict.fromkeys(str(run.values[column]) for run in runs if run.values.get(column)))
        for column in ("model", "corpus")
    )
    return Overview(sum(run.done for run in runs), len(runs), models, corpora)


def _cut(runs: int, commands: int) -> list[Note]:
    return [RunsCut(MOST_RUNS, runs)] if max(runs, commands) > MOST_RUNS else []
