"""Whatever is typed, it is taken for what it says or refused with a message."""

import re
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medqa_finetune.config.command_line import quoted
from medqa_finetune.config.command_options import parse_options
from medqa_finetune.config.groups import load_group
from medqa_finetune.config.schema import CorpusConfig, DataConfig
from medqa_finetune.config.yaml_traps import trapped_values
from medqa_finetune.errors import ConfigError
from medqa_finetune.evaluate import EvaluateOptions
from scripts.reader_checks import check_message

PIECES = [
    *"[]{}'\"\\,:=$#!&*|>%@~ \t\n",
    "${",
    "}",
    "oc.env:X",
    "???",
    "null",
    "NO",
    "1e999",
    "9" * 5000,
    "!!python/object",
]
typed = st.text(max_size=10) | st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=8).map("".join)
# What means something to a shell or to Hydra's grammar is the user's own business to quote.
plain = st.text(st.characters(exclude_characters="'\"\\$[]{},()\n\r\x00", exclude_categories=["Cs"]), max_size=20)


@given(key=st.sampled_from(["run", "predictions", "format", "items", "metrics", "output", ""]), value=typed)
@settings(deadline=None, max_examples=40)
@example(key="metrics", value="[" * 5000)
@example(key="items", value="9" * 5000)
def test_options_of_a_door(key: str, value: str) -> None:
    try:
        options = parse_options(EvaluateOptions, [f"{key}={value}"])
    except ConfigError as error:
        check_message(error)
    else:
        assert key in ("run", "predictions")
        assert getattr(options, key) == value


@given(key=st.sampled_from(["path", "question", "max_reject_share", "files", "none"]), value=typed)
@settings(deadline=None, max_examples=40)
@example(key="question", value="[" * 5000)
def test_overrides_of_a_script(key: str, value: str) -> None:
    for group, name, schema in (("corpus", "jsonl", CorpusConfig), ("data", "20k", DataConfig)):
        try:
            load_group(group, name, schema, ["path=a", f"{key}={value}"] if group == "corpus" else [f"{key}={value}"])
        except ConfigError as error:
            check_message(error)


@given(value=plain)
@settings(deadline=None, max_examples=40)
def test_plain_text_reaches_hydra_as_it_was_typed(value: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([quoted(f"corpus.path={value}")])
    read = override.value()
    assert (read if isinstance(read, str) else override.get_value_string()) == value


@given(value=typed)
@settings(deadline=None, max_examples=40)
def test_anything_else_is_hydras_to_refuse(value: str) -> None:
    try:
        OverridesParser.create().parse_overrides([quoted(f"corpus.path={value}")])
    except (OverrideParseException, ValueError):
        assert re.search(r"[^\w./-]|^9{4301}", value), "a simple value is never refused"


@given(text=typed | st.text())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_yaml_of_any_kind_is_looked_through(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        found = trapped_values([path])
    except yaml.YAMLError:  # reported before, by composition
        return
    assert all(fault.file == str(path) and fault.line_number for fault in found)
