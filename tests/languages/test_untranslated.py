"""What has no Chinese yet, by name: faults, and all that is said through `say`."""

import ast
import re

import pytest

from medqa_finetune.languages.translate import BETWEEN_SENTENCES, catalogue
from scripts.fault_sources.rows import fault_rows
from scripts.fault_sources.sources import called
from tests.sources import IN_PACKAGE, ROOT

# These numbers only fall: a new text comes with its line in languages/zh/.
MOST_FAULTS, MOST_SAID = 25, 0
PLACEHOLDER = re.compile(r'\{[^{}"]*\}')


def has_words(text: str) -> bool:
    """Return whether a text has words beside what differs from case to case."""
    return re.search(r"[A-Za-z]{2}", PLACEHOLDER.sub("", text)) is not None


def test_faults_are_translated() -> None:
    texts = {text for row in fault_rows(ROOT) for text in row.texts if has_words(text)}
    # A word that has a translation, where words are asked for.
    lacking = sorted(text for text in texts if catalogue().find(PLACEHOLDER.sub("text", text)) is None)
    assert len(lacking) <= MOST_FAULTS, "\n".join(["no Chinese in languages/zh/faults/:", *lacking])


def said(tree: ast.Module) -> list[str]:
    """Return the literal texts that are given to `say`, also by the name of a constant."""
    named = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and called(node) == "say" and node.args]
    parts = [part for call in calls for part in ast.walk(call.args[0])]
    literal = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return literal + [named[part.id] for part in parts if isinstance(part, ast.Name) and part.id in named]


def test_all_that_is_said_is_translated() -> None:
    sources = [source for source in IN_PACKAGE if "languages.translate" in source.text]
    lacking = sorted({text for source in sources for text in said(source.tree) if catalogue().find(text) is None})
    assert len(lacking) <= MOST_SAID, "\n".join(["no Chinese in languages/zh/:", *lacking])


@pytest.mark.parametrize("part", ["faults", "terminal", "help_pages", "doctor"])
def test_translations_are_chinese_and_end_as_the_english(part: str) -> None:
    texts = __import__(f"medqa_finetune.languages.zh.{part}", fromlist=["TEXTS"]).TEXTS
    assert [text for text in texts if len(BETWEEN_SENTENCES.split(text)) > 1 and part == "faults"] == []
    assert [text for text, chinese in texts.items() if text.endswith(".") is not chinese.endswith("。")] == []
