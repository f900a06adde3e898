"""What Hydra, OmegaConf and YAML complain of, said so that whoever typed the command can act on it."""

import difflib
import re
from collections.abc import Sequence
from typing import cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medqa_finetune.config.options import writable_node
from medqa_finetune.config.schema import Config

SECTIONS = ("method", "data", "corpus", "model", "train", "evaluate", "tracker")
MESSAGE_LENGTH = 600
# Lines of their errors that help nobody who types a command.
NOISE = ("full_key", "object_type", "reference_type", "Set the environment", "To append to your config",
         "Config search path", "provider=", "See https://hydra.cc")  # fmt: skip
# A complaint about a value, and what is wanted instead.
WRONG_VALUE = (
    (re.compile(r"could not be converted to Integer"), "a whole number is wanted"),
    (re.compile(r"could not be converted to Float"), "a number is wanted"),
    (re.compile(r"Cannot convert '\w+' to string"), "text is wanted"),
    (re.compile(r"is not a valid bool"), "true or false is wanted"),
    (re.compile(r"is not a ListConfig, list or tuple"), "a list is wanted, such as [a,b]"),
    (re.compile(r"is not Optional|Incompatible value 'None'"), "null is not allowed"),
    (re.compile(r"Environment variable '(.*)' not found"), "the environment variable {} is not set"),
)
UNKNOWN_KEY = re.compile(r"Could not override '([\w.@/-]+)'|Key '[^']*' (?:not in '|is not in struct)")
UNKNOWN_CHOICE = re.compile(r"Could not find '([^']+)/([^'/]*)' Available options in '[^']+': (.*)")
NO_EQUALS = re.compile(r"Error parsing override '(.*)' missing EQUAL")
IN_FILE = re.compile(r"In '([^']+)': (?:\w+ raised while composing config: )?")


def explain(error: Exception) -> str:
    """Return what of a Hydra, OmegaConf or YAML error a user can act on, as one line."""
    if isinstance(error, yaml.YAMLError):
        text = f"a configuration file is not YAML: {' '.join(str(error).split())}"
    elif isinstance(error, UnicodeDecodeError):
        text = f"a configuration file is not UTF-8 (byte {error.start}); save it as UTF-8."
    elif isinstance(error, RecursionError):
        text = "a configuration file is nested too deeply, or an alias in it contains itself."
    else:
        causes = [error, *([error.__cause__] if isinstance(error.__cause__, OmegaConfBaseException) else [])]
        lines = [line.strip() for cause in causes for line in str(cause).splitlines() if line.strip()]
        text = _explained(lines, getattr(error, "full_key", None) or _after("full_key: ", lines))
    return text[:MESSAGE_LENGTH]


def _explained(lines: Sequence[str], key: str | None) -> str:
    text = " ".join(dict.fromkeys(line for line in lines if not line.startswith(NOISE)))
    file, said = "", text
    if (found := IN_FILE.match(text)) and found.group(1) != "config":
        file, said = f"{found.group(1)}.yaml: ", text[found.end() :]
    for complaint, wanted in WRONG_VALUE:
        if found := complaint.search(text):
            got = re.search(r"Value '(.*?)' of type", text)
            setting = _after("Error merging override ", lines) or (f"{key}={got.group(1)}" if got else key)
            return f"{file}{setting}: {wanted.format(*found.groups())}."
    if found := UNKNOWN_CHOICE.search(text):
        group, choice, allowed = found.groups()
        return f"{file}{group}={choice}: allowed are {', '.join(allowed.split())}."
    if found := NO_EQUALS.search(text):
        return f"'{found.group(1)}': key=value is wanted."
    if found := UNKNOWN_KEY.search(text):
        unknown = found.group(1) or key or ""
        return f"{file}{unknown}: there is no such key{similar_keys(unknown)}"
    return f"{file}{key}: {said}" if key and key not in said else f"{file}{said}"


def _after(start: str, lines: Sequence[str]) -> str | None:
    """Return the rest of the first line that begins so."""
    return next((line.removeprefix(start) for line in lines if line.startswith(start)), None)


def similar_keys(key: str) -> str:
    """Return a hint at the keys that exist, where `key` does not."""
    known = [*dotted_keys(schema_node()), *SECTIONS, "profile"]
    if key in known:
        return ""
    matches = difflib.get_close_matches(key, known, n=3)
    # Beside one that is hardly misspelt, what shares its section alone is no help.
    close = [other for other in matches if _likeness(key, other) > _likeness(key, matches[0]) - 0.1]
    close = close or [other for other in known if other.startswith(key.partition(".")[0])]
    return f". Did you mean {' or '.join(close[:6])}?" if close else ". See `python -m medqa_finetune.train --help`."


def _likeness(key: str, other: str) -> float:
    return difflib.SequenceMatcher(None, key, other).ratio()


def schema_node() -> DictConfig:
    """Return the schema as a node that values can be merged into."""
    return writable_node(Config)


def dotted_keys(node: DictConfig, prefix: str = "") -> list[str]:
    """Return every key below a node, as `train.epochs`."""
    keys: list[str] = []
    for key in map(str, node):
        child = node._get_node(key)
        if OmegaConf.is_dict(child):
            keys += dotted_keys(cast("DictConfig", child), f"{prefix}{key}.")
        else:
            keys.append(f"{prefix}{key}")
    return keys
