"""`python -m tests.faults --trials 20 --seed 0`: the faults of the plan, injected into real runs of a small model."""

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.checks import DIFFERENT, LOST, TORN
from tests.faults.plan import FAULTS
from tests.faults.runner import Outcome, prepare, run_all
from tests.faults.warm import load_everything


def main() -> int:
    """Run what the command line asks for, print the table, and return 1 if anything was lost."""
    options = _arguments()
    faults = options.faults.split(",") if options.faults else list(FAULTS)
    unknown = [name for name in faults if name not in FAULTS]
    if unknown:
        print(f"--faults {','.join(unknown)}: the faults are {', '.join(FAULTS)}.", file=sys.stderr)
        return 2
    numbers = [options.only] if options.only is not None else range(options.trials)
    # Every fault has had its first trial before any has its second: a time limit shortens all alike.
    jobs = [(fault, number) for number in numbers for fault in faults]
    shared = Path(options.folder or tempfile.mkdtemp(prefix="faults-")).resolve()
    load_everything()
    prepare(shared)
    started = time.monotonic()
    outcomes: list[Outcome] = []
    # Ctrl-C ends it early, with the table of what was tried.
    with contextlib.suppress(KeyboardInterrupt):
        for outcome in run_all(jobs, options.seed, shared, options.workers, options.seconds):
            outcomes.append(outcome)
            _show(outcome, options.seed, len(outcomes), len(jobs), verbose=options.verbose)
    print(table(outcomes, faults))
    print(_in_a_line(outcomes, len(jobs), options.seed, time.monotonic() - started))
    lost = [outcome for outcome in outcomes if outcome.kind]
    if lost:
        print(f"what was left of them: {shared / 'trials'}")
    elif not options.folder:
        shutil.rmtree(shared, ignore_errors=True)
    return int(bool(lost))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--trials", type=int, default=20, help="trials per fault (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (default 0)")
    parser.add_argument("--faults", help="only these, e.g. F1,F7")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="only the trial with this number, to see it again")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no trial after so long")
    parser.add_argument("--workers", type=int, default=2, help="trials side by side (default 2)")
    parser.add_argument("--folder", help="where trials run; kept (default: a temporary folder)")
    parser.add_argument("--verbose", action="store_true", help="say of every trial what was done in it")
    return parser.parse_args()


def _show(outcome: Outcome, seed: int, number: int, total: int, *, verbose: bool) -> None:
    what = f"LOST  {outcome.reason}" if outcome.kind else "survived"
    print(f"[{number}/{total}] {outcome.fault}-{outcome.number}  {outcome.seconds:.1f} s  {what}", flush=True)
    if outcome.kind:
        print(f"    again: python -m tests.faults --faults {outcome.fault} --seed {seed} --only {outcome.number}")
    if outcome.kind or verbose:
        print("".join(f"    {note}\n" for note in outcome.notes), end="", flush=True)


def table(outcomes: Sequence[Outcome], faults: Sequence[str]) -> str:
    """Return the Markdown table: one row per fault."""
    lines = ["", "| fault | injected | trials | survived | lost |", "|---|---|---:|---:|---|"]
    for fault in faults:
        mine = [outcome for outcome in outcomes if outcome.fault == fault]
        reasons = dict.fromkeys(" ".join(each.reason.split())[:160].replace("|", "\\|") for each in mine if each.kind)
        lost = sum(bool(outcome.kind) for outcome in mine)
        cell = f"{lost}: {'; '.join(reasons)}" if lost else "0"
        lines.append(f"| {fault} | {FAULTS[fault].injected} | {len(mine)} | {len(mine) - lost} | {cell} |")
    return "\n".join(lines) + "\n"


def _in_a_line(outcomes: Sequence[Outcome], asked: int, seed: int, seconds: float) -> str:
    counts = {kind: sum(outcome.kind == kind for outcome in outcomes) for kind in (LOST, TORN, DIFFERENT)}
    others = sum(bool(outcome.kind) for outcome in outcomes) - sum(counts.values())
    return (
        f"{len(outcomes)} of {asked} trials in {seconds / 60:.0f} min, seed {seed}: {counts[LOST]} lost finished runs, "
        f"{counts[TORN]} torn files, {counts[DIFFERENT]} silent differences, {others} other broken promises."
    )


if __name__ == "__main__":
    sys.exit(main())
