"""Write docs/faults.md, the table of every fault that a command can end with, as the sources show it.

python scripts/fault_table.py                  write the page
python scripts/fault_table.py --check          say whether it is what the sources show; exit code 1 if it is not
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from scripts.fault_sources.rows import Row, fault_rows  # noqa: E402

PAGE = ROOT / "docs" / "faults.md"
HEAD = """\
# Faults

A command that is refused prints each of its faults in a line; with `format=json` it prints their fields as well, as one
JSON object, and where the environment variable `MEDQA_FAULTS_FILE` names a file, it writes them there. In Python, a
caught `MedQAError` has them as `error.faults`, each with `code`, `problem`, `key`, `got`, `allowed`, `hint`, `file` and
`line_number`.

A code never changes, words may. Braces stand for what differs from case to case, and a slash for "or". Written by
`python scripts/fault_table.py`.
"""
COLUMNS = ("key", "what is wrong", "allowed", "what to do", "comes from")


def main(arguments: Sequence[str]) -> int:
    """Write or check the page, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    text = page(fault_rows(ROOT))
    if not options.check:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        name = PAGE.relative_to(ROOT) if PAGE.is_relative_to(ROOT) else PAGE
        print(f"{name} is not what the sources show. Run `python scripts/fault_table.py`.", file=sys.stderr)
        return 1
    return 0


def page(rows: Iterable[Row]) -> str:
    """Return the page: a table for every code, in the order of the codes."""
    return HEAD + "".join(_section(code, list(group)) for code, group in groupby(sorted(rows), lambda row: row.code))


def _section(code: str, rows: Sequence[Row]) -> str:
    # Faults with the same words in several files share a row.
    rooms: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        rooms.setdefault((row.key, row.problem, row.allowed, row.hint), []).append(row.room)
    lines = [COLUMNS, ("---",) * len(COLUMNS), *((*words, ", ".join(files)) for words, files in rooms.items())]
    return f"\n## {code}\n\n" + "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
