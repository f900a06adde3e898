"""The page itself: templates, styles and scripts put together into one file that fetches nothing."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from medqa_finetune.evaluation.metrics.base import Prominence
from medqa_finetune.record.schema import Record
from medqa_finetune.report.analysis import Analysis
from medqa_finetune.report.figures.write import Drawn
from medqa_finetune.report.html.answers import Answers
from medqa_finetune.report.html.reproduce import commands_of, settings_of
from medqa_finetune.report.html.table import Row
from medqa_finetune.report.messages import label, labels_below, score_title, text
from medqa_finetune.report.messages.sentences import Overview
from medqa_finetune.report.notes import GroupName, Note, RunsCut
from medqa_finetune.report.scores import headline_columns, in_order, score_columns, signatures
from medqa_finetune.report.verdict import Caution
from medqa_finetune.report.words import Text

ASSETS = "assets"
STYLES = ("base.css", "content.css", "browser.css")
SCRIPTS = ("page.js", "text.js", "browser.js")
MOST_RUNS = 300
# What ends a script element, or opens one, is written with escapes that JSON has for it.
JSON_ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})


@dataclass(frozen=True)
class GroupView:
    """A group of runs that compare, as the templates show it; `charts` by section of the page."""

    name: GroupName
    headings: list[Text]
    rows: list[Row]
    charts: dict[str, list[Drawn]]
    answers: Answers


@dataclass(frozen=True)
class Page:
    """All that the page shows."""

    frame: pd.DataFrame
    analysis: Analysis
    records: Sequence[Record]
    groups: Sequence[GroupView]


def rendered(page: Page) -> bytes:
    """Return the page as UTF-8."""
    environment = Environment(
        loader=PackageLoader(__package__, ASSETS), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    script = _asset(*SCRIPTS)
    environment.globals |= {"label": label, "said": text, "score_title": score_title}
    html = environment.get_template("page.html.j2").render(
        _content(page), script=script, script_hash=_csp_hash(script), style=_asset(*STYLES),
        data=embedded_json([group.answers.as_data() for group in page.groups]),
        script_words=json.dumps(labels_below("script."), ensure_ascii=False),
    )  # fmt: skip
    # Half a character, which JSON can hold and UTF-8 cannot, stands as its number.
    return html.encode("utf-8", "backslashreplace")


def embedded_json(data: Any) -> str:
    """Return JSON that can stand in a script element whatever its texts hold."""
    written = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return written.translate(JSON_ESCAPES)


def _asset(*names: str) -> str:
    return "\n".join((files(__package__) / ASSETS / name).read_text(encoding="utf-8") for name in names)


def _csp_hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _content(page: Page) -> dict[str, Any]:
    verdicts = page.analysis.verdicts
    cautions = list(dict.fromkeys(verdict.caution for verdict in verdicts)) or [Caution.SAFETY]
    rows = page.frame.to_dict("records")
    runs = [{"place": _place(row), "status": row["status"], "reason": row["reason"] or ""} for row in rows[:MOST_RUNS]]
    commands = commands_of(page.records)
    shown = in_order(score_columns(page.frame["signature"]))
    main_scores = [score.name for score in shown if score.prominence is not Prominence.DETAIL]
    return {
        "overview": _overview(rows), "verdicts": verdicts, "cautions": cautions, "groups": page.groups,
        "notes": [*page.analysis.notes, *_cut(len(rows), len(commands))], "settings_of_tests": page.analysis.settings,
        "signatures": _signatures(rows), "settings": settings_of(page.records), "commands": commands[:MOST_RUNS],
        "runs": runs, "headlines": headline_columns(), "main_scores": main_scores,
    }  # fmt: skip


def _overview(rows: list[dict[Any, Any]]) -> Overview:
    models, corpora = (
        tuple(dict.fromkeys(str(row[column]) for row in rows if row[column])) for column in ("model", "corpus")
    )
    return Overview(sum(row["status"] == "done" for row in rows), len(rows), models, corpora)


def _cut(runs: int, commands: int) -> list[Note]:
    return [RunsCut(MOST_RUNS, runs)] if max(runs, commands) > MOST_RUNS else []


def _signatures(rows: list[dict[Any, Any]]) -> list[tuple[str, str]]:
    pairs = {pair: None for row in rows for pair in signatures(row["signature"]).items()}
    return sorted(pairs)


def _place(row: dict[Any, Any]) -> str:
    return f"{row['study']}/{row['name']}" if row["study"] else str(row["name"])
