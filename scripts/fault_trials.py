"""Inject faults into real runs of a small model, and check that nothing is lost; print a table.

python scripts/fault_trials.py                                 20 trials of each fault; about an hour on two cores
python scripts/fault_trials.py --trials 1 --faults F1,F13      a few
python scripts/fault_trials.py --faults F2 --seed 3 --only 7   one trial of an earlier table again

Each trial runs the real commands, disturbs them at a random moment, types the same command again, and compares weights,
predictions, curves and scores with those of an undisturbed run. Exit code: 0 if nothing was lost, 1 if anything was, 2
for arguments that cannot be followed.
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from scripts.trials.checks import DIFFERENT, LOST, TORN  # noqa: E402
from scripts.trials.plan import FAULTS  # noqa: E402
from scripts.trials.runner import Outcome, prepare, run_all  # noqa: E402
from scripts.trials.warm import load_everything  # noqa: E402


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for, print the table, and return 1 if anything was lost."""
    options = _options(arguments)
    faults = options.faults.split(",") if options.faults else list(FAULTS)
    unknown = [name for name in faults if name not in FAULTS]
    if unknown:
        print(f"--faults {','.join(unknown)}: the faults are {', '.join(FAULTS)}.", file=sys.stderr)
        return 2
    numbers = [options.only] if options.only is not None else range(options.trials)
    # Every fault gets its first trial before any gets its second, so that a time limit affects all equally.
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


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20, help="trials per fault (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (default 0)")
    parser.add_argument("--faults", help="only these, such as F1,F7 (default: all)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="only the trial with this number")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no trial after this many seconds")
    parser.add_argument("--workers", type=int, default=2, help="trials at the same time (default 2)")
    parser.add_argument("--folder", help="where trials run; kept (default: a temporary folder)")
    parser.add_argument("--verbose", action="store_true", help="print what was done in every trial")
    return parser.parse_args(arguments)


def _show(outcome: Outcome, seed: int, number: int, total: int, *, verbose: bool) -> None:
    what = f"LOST  {outcome.reason}" if outcome.kind else "survived"
    print(f"[{number}/{total}] {outcome.fault}-{outcome.number}  {outcome.seconds:.1f} s  {what}", flush=True)
    if outcome.kind:
        print(
            f"    again: python scripts/fault_trials.py --faults {outcome.fault} --seed {seed} --only {outcome.number}"
        )
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
    sys.exit(main(sys.argv[1:]))
