"""Print what a user sees for each of the forty bad inputs, as a Markdown table.

python scripts/bad_inputs.py > docs/bad_inputs.md      all
python scripts/bad_inputs.py NUMBER …                  some
"""

import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from scripts.bad_input_cases.all_cases import CASES  # noqa: E402
from scripts.bad_input_cases.case import Case  # noqa: E402
from scripts.bad_input_cases.rows import json_lines  # noqa: E402

HEADING = """\
# What a user sees

Every bad input of the forty, given to the real command line by `python scripts/bad_inputs.py`, which wrote this table;
RUN stands for the folder of a run.
Exit code 2: refused, and nothing was written. Exit code 0: accepted, and this was reported. Exit code 1: a matrix of
which some runs are done. Programs get the same as fields: `docs/faults.md`.

| | input | exit code | message |
|---:|---|---:|---|"""

TIME = re.compile(r"^\d\d:\d\d:\d\d ")
# Run names list the settings that differ from the defaults, which are many here.
RUN_FOLDER = re.compile(r"outputs/demo/[^ :)]+")


def row(case: Case) -> str:
    """Run a case in its own folder, and return its table row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve() / "work"
        folder.mkdir()
        case.prepare(folder)
        done = case.run(folder, folder.parent / "faults.json")
        lines = (fault.line() for fault in done.faults)
        message = "\n".join(lines) if case.code else reported(case, done.output + done.complaints, folder)
        text = RUN_FOLDER.sub("RUN", message.replace(f"{folder}/", "").replace(str(folder), "…"))
    return f"| {case.number} | {case.what} | {done.code} | {escaped(text)} |"


def reported(case: Case, printed: str, folder: Path) -> str:
    """Return the output lines about the oddity of an accepted input, and the list of rejected rows."""
    lines = [TIME.sub("", line) for line in printed.splitlines() if any(text in line for text in case.says)]
    path = folder / "cleaned" / "rejects.jsonl"
    lines += [f"rejects.jsonl: {row['place']} {row['reason']}" for row in json_lines(path)] if path.exists() else []
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Escape text for literal display in a Markdown table cell."""
    lines = (" ".join(line.split()).replace("|", "\\|").replace("<", "&lt;") for line in text.splitlines())
    return "<br>".join(line for line in lines if line)


if __name__ == "__main__":
    if {"-h", "--help"} & {*sys.argv}:
        print(__doc__, end="")
        sys.exit()
    print(HEADING)
    for each in CASES:
        if len(sys.argv) == 1 or str(each.number) in sys.argv[1:]:
            print(row(each), flush=True)
