"""Finds unquoted values that YAML 1.1 reads differently from how they look: `NO` is false, `010` is 8."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from medqa_finetune.errors import Fault, brief

# Words besides `true` and `false` that YAML 1.1 reads as booleans.
WORD_FOR_BOOLEAN = re.compile(r"yes|no|on|off", re.IGNORECASE)
# A leading zero means base 8, colons mean base 60.
OTHER_BASE = re.compile(r"[-+]?(?:0[0-9_]+|[0-9][0-9_]*(?::[0-9]+)+(?:\.[0-9_]*)?)")
TRAPS = {
    "tag:yaml.org,2002:bool": WORD_FOR_BOOLEAN,
    "tag:yaml.org,2002:int": OTHER_BASE,
    "tag:yaml.org,2002:float": OTHER_BASE,
}


def trapped_values(paths: Iterable[Path]) -> list[Fault]:
    """Return a fault with file and line for every such value in these YAML files."""
    return [fault.but(file=str(path)) for path in paths for fault in _trapped_in(path.read_text(encoding="utf-8"))]


@lru_cache(maxsize=256)
def _trapped_in(text: str) -> tuple[Fault, ...]:
    """Return the faults of a file with this content; the cells of a matrix choose the same few files."""
    return tuple(_trapped(text))


def _trapped(text: str) -> Iterator[Fault]:
    waiting: list[tuple[Any, str]] = [(yaml.compose(text, Loader=yaml.SafeLoader), "")]
    seen: set[int] = set()
    while waiting:
        node, key = waiting.pop()
        if id(node) in seen:  # an alias may refer to a node that contains it
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
                "yaml-trap",
                f"YAML reads this as {brief(got)}",
                key=brief(key) if key else None,
                got=node.value,
                hint=hint,
                line_number=node.start_mark.line + 1,
            )


def _is_trap(node: yaml.ScalarNode) -> bool:
    pattern = TRAPS.get(node.tag)
    return node.style is None and pattern is not None and pattern.fullmatch(node.value) is not None
