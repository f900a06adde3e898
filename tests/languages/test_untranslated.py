"""What has no Chinese yet, by name: what is said or logged, and help. Faults: `test_faults_everywhere.py`."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module

import pytest

from medqa_finetune.languages.help_page import texts_of
from medqa_finetune.languages.translate import BETWEEN_SENTENCES, Kind, catalogue
from scripts.fault_sources.sources import called
from tests.sources import IN_PACKAGE, PACKAGE

# These numbers only fall: a new text comes with its line in languages/zh/.
MOST_SAID = MOST_HELP = 0
LOGGED = r"log(ger)?\.(info|warning|error)"


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
    lacking = sorted(
        {text for source in sources for text in said(source.tree) if catalogue(Kind.SAID).exact(text) is None}
    )
    assert len(lacking) <= MOST_SAID, "\n".join(["no Chinese in languages/zh/:", *lacking])


# Logged as they come: a fault, and lists of identifiers.
NO_WORDS = {"%s", "%s: %s"}
# Values of templates that take words, or sentences.
VALUES = {
    "%s: %s examples begin like many others, and go by what follows%s (corpus.identified_by=first_question takes all "
    "that begin alike for one question)": ("name", "9", "; 7 have nothing else, and are never held out"),
    "%s: reference from %s, %s": ("a.jsonl", "label", "row by row"),
    "%s: %s; %s%s": ("outputs/a", "the untuned model, quantized", "9 MiB", "; measuring it"),
    "%s It is not scored again.": ("It is not scored again.",),
    "%s It is prepared again.": ("It is not scored again.",),
    "%s of %s test questions (%.1f %%) %s, to fit train.max_length=%s": ("7", "9", 7.0, "are asked cut", "9"),
    "%s of %s weights are trained (%.2f %%)%s": ("7", "9", 7.0, ", adapters on q_proj"),
    "data.scale=%g takes of this text %swhere it has no parts of its own %s for the test, %d for validation; "
    "data.scale=1 takes the sizes as they are": (0.1, "9 blocks for training, and ", "9 rows", 9),
    "this training began with adapters %s, and goes on so": ("fused",),
}


def logged(tree: ast.Module) -> Iterator[str]:
    """Yield the templates that functions log; a logged name is that of a text in its function."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        named: dict[str, list[str]] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                for target in node.targets:
                    named.setdefault(ast.unparse(target), []).append(str(node.value.value))
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and re.fullmatch(LOGGED, ast.unparse(call.func)):
                first = call.args[0]
                yield from [str(first.value)] if isinstance(first, ast.Constant) else named[ast.unparse(first)]


def test_all_that_is_logged_is_translated() -> None:
    templates = {text for source in IN_PACKAGE for text in logged(source.tree)} - NO_WORDS
    assert len(templates) > 70
    filled = {
        text: text % VALUES[text] if text in VALUES else re.sub(r"%(?:\.\d)?[sdgf]", "7", text).replace("%%", "%")
        for text in templates
    }
    lacking = sorted(text for text, sample in filled.items() if catalogue(Kind.LOG).find(sample) is None)
    assert lacking == [], "\n".join(["no Chinese in languages/zh/logged.py:", *lacking])


@pytest.mark.parametrize("name", ["train", "plan", "evaluate", "summarize", "chat", "export", "doctor"])
def test_help_is_translated(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert getattr(import_module(f"{PACKAGE}.{name}"), name)(["--help"]) == 0
    lacking = sorted({text for text in texts_of(capsys.readouterr().out) if catalogue(Kind.HELP).find(text) is None})
    assert len(lacking) <= MOST_HELP, "\n".join(["no Chinese in languages/zh/help_pages.py:", *lacking])


@pytest.mark.parametrize("part", ["faults", "terminal", "help_pages", "doctor", "logged"])
def test_translations_are_chinese_and_end_as_the_english(part: str) -> None:
    texts = import_module(f"{PACKAGE}.languages.zh.{part}").TEXTS
    assert [text for text in texts if len(BETWEEN_SENTENCES.split(text)) > 1 and part == "faults"] == []
    assert [text for text, chinese in texts.items() if text.endswith(".") is not chinese.endswith("。")] == []
