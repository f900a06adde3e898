"""What YAML 1.1 makes of a value without quotes that its writer meant otherwise: `NO` is false, `010` is 8."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from medqa_finetune.errors import Fault, brief

# What YAML reads as true or false beside `true` and `false` themselves.
WORD_FOR_BOOLEAN = re.compile(r"yes|no|on|off", re.IGNORECASE)
# A leading zero means base 8, colons mean base 60.
OTHER_BASE = re.compile(r"[-+]?(?:0[0-9_]+|[0-9][0-9_]*(?::[0-9]+)+(?:\.[0-9_]*)?)")
TRAPS = {"tag:yaml.org,2002:bool": WORD_FOR_BOOLEAN, "tag:yaml.org,2002:int": OTHER_BASE,
         "tag:yaml.org,2002:float": OTHER_BASE}  # fmt: skip


def trapped_values(paths: Iterable[Path]) -> list[Fault]:
    """Return a fault for every value in YAML files that YAML reads otherwise than it looks, with file and line."""
    return [fault for path in paths for fault in _trapped(path)]


def _trapped(path: Path) -> Iterator[Fault]:
    waiting = [yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias may lead back to where it stands
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in reversed(node.value) for part in reversed(pair)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)
        elif isinstance(node, yaml.ScalarNode) and _is_trap(node):
            got = str(yaml.safe_load(node.value)).lower()
            hint = f"Write {brief(got)} if that is meant, '{brief(node.value)}' for the text."
            problem, line_number = f"YAML reads this as {brief(got)}", node.start_mark.line + 1
            yield Fault("yaml-trap", problem, got=node.value, hint=hint, file=str(path), line_number=line_number)


def _is_trap(node: yaml.ScalarNode) -> bool:
    pattern = TRAPS.get(node.tag)
    return node.style is None and pattern is not None and pattern.fullmatch(node.value) is not None
