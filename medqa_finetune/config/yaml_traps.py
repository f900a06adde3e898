"""What YAML 1.1 makes of a value without quotes that its writer meant otherwise: `NO` is false, `010` is 8."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

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
    """Yield the fault of every trap, in the order of the file, with the key that it is the value of."""
    waiting: list[tuple[Any, str]] = [(yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader), "")]
    seen: set[int] = set()
    while waiting:
        node, key = waiting.pop()
        if id(node) in seen:  # an alias may lead back to where it stands
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for name, value in reversed(node.value):
                own = name.value if isinstance(name, yaml.ScalarNode) else ""
                waiting += [(value, ".".join(filter(None, (key, own)))), (name, key)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(part, key) for part in reversed(node.value)]
        elif isinstance(node, yaml.ScalarNode) and _is_trap(node):
            got = str(yaml.safe_load(node.value)).lower()
            hint = f"Write {brief(got)} if that is meant, '{brief(node.value)}' for the text."
            yield Fault(
                "yaml-trap", f"YAML reads this as {brief(got)}", key=brief(key) if key else None, got=node.value,
                hint=hint, file=str(path), line_number=node.start_mark.line + 1,
            )  # fmt: skip


def _is_trap(node: yaml.ScalarNode) -> bool:
    pattern = TRAPS.get(node.tag)
    return node.style is None and pattern is not None and pattern.fullmatch(node.value) is not None
