"""Check on a GPU, within eight minutes, what cannot be checked without one; prints a table and writes JSON.

python scripts/check_gpu.py                                   Qwen2.5-3B's widths, random weights; needs no network
python scripts/check_gpu.py --only packing speed --out gpu.json
python scripts/check_gpu.py --device cpu --small              the same checks, small, on the CPU

Each part runs in a process of its own with its own time limit, so that one that fails or hangs spoils no other.
Packages that are missing are named, and what needs them is left out. The exit code is 1 if a value is not as it should
be.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from scripts.gpu_checks.lacking import MAY_LACK, lacking, stand_in  # noqa: E402

# In the order of what must be known first, with limits in seconds.
LIMITS = {
    "card": 40, "packing": 70, "answering-form": 50, "overflow": 60, "speed": 150, "answering": 90, "roofline": 60,
    "memory": 90, "equality": 50, "resume": 50,
}  # fmt: skip
ALL_SECONDS = 480
# A part gets no less: it is left out, and named, if less is left of the whole.
LEAST_SECONDS = 20


def main(arguments: list[str]) -> int:
    """Run the parts in turn, print what they found, and return the exit code."""
    asked = _parser().parse_args(arguments)
    if asked.part is not None:
        return run_part(asked.part, small=asked.small)
    missing = lacking()
    for name in missing:
        print(f"{name} is missing: without {MAY_LACK[name]}")
    began, found = time.monotonic(), []
    for part in asked.only or LIMITS:
        left = asked.seconds - (time.monotonic() - began)
        limit = min(LIMITS[part], left)
        found += start(part, asked, limit) if left >= LEAST_SECONDS else [_not_run(part, "no time left")]
    print(table(found))
    if asked.out is not None:
        asked.out.write_text(json.dumps({"missing": missing, "findings": found}, indent=1) + "\n", encoding="utf-8")
    return int(any(each["ok"] is False for each in found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="two narrow layers instead of Qwen2.5-3B's widths")
    parser.add_argument("--only", nargs="+", choices=LIMITS, metavar="PART", help=f"of {', '.join(LIMITS)}")
    parser.add_argument("--seconds", type=float, default=ALL_SECONDS, help="time limit of all parts together")
    parser.add_argument("--out", type=Path, help="JSON file for what was found")
    parser.add_argument("--part", choices=LIMITS, help=argparse.SUPPRESS)
    return parser


def start(part: str, asked: argparse.Namespace, seconds: float) -> list[dict[str, Any]]:
    """Run one part in a process of its own; return what it found before it ended, failed or was stopped."""
    command = [sys.executable, str(Path(__file__).resolve()), "--part", part, *(["--small"] if asked.small else [])]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if asked.device == "cpu" else {}
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds, env=os.environ | hidden,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        output, errors, code = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as error:
        output, errors, code = (_text(error.stdout), f"stopped after {seconds:.0f} s", None)
    found: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    if code != 0:
        last = next((line for line in reversed(errors.splitlines()) if line.strip()), "no message")
        found.append(_not_run(part, last.strip()[:200]))
    return found


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def _not_run(part: str, why: str) -> dict[str, Any]:
    return {"part": part, "what": "not run to its end", "value": why, "unit": "", "limit": "", "ok": False}


def run_part(part: str, *, small: bool) -> int:
    """Run one part here, and print a line of JSON per finding as it is found."""
    stand_in(lacking())
    logging.disable(logging.INFO)
    from scripts.gpu_checks.models import Scale
    from scripts.gpu_checks.parts import PARTS

    for finding in PARTS[part](Scale(small)):
        print(json.dumps(asdict(finding)), flush=True)
    return 0


def table(found: list[dict[str, Any]]) -> str:
    """Return the findings as text, one per line."""
    marks = {None: "", True: "ok", False: "NOT OK"}
    rows = [
        [each["part"], each["what"], f"{each['value']} {each['unit']}".strip(), each["limit"], marks[each["ok"]]]
        for each in found
    ]
    rows.insert(0, ["part", "what", "found", "expected", ""])
    widths = [max(len(row[place]) for row in rows) for place in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
