"""Disturb cells on a real SLURM of one node on this machine, and compare their results with an undisturbed run.

python scripts/cluster_kills.py                 every case
python scripts/cluster_kills.py time-out        some cases

As root, with slurmctld, slurmd, slurm-client and munge installed; a case takes one to four minutes. After each
disturbance the same command is typed again. Results must be equal byte by byte, but for times and memory.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from scripts.clusters.cases import CASES, Outcome, Stage, run_case, undisturbed  # noqa: E402
from scripts.clusters.slurm_server import server  # noqa: E402

HEAD = """\
| what happens | starts of the cell | resumed from step | same command again | results |
|---|---|---|---|---|"""


def main() -> None:
    """Run cases, and exit 0 if every one came to equal results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], metavar="case", help=", ".join(CASES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, server(Path(place) / "slurm") as variables:
        stage = Stage(Path(place), variables)
        expected = undisturbed(stage)
        outcomes = []
        print(HEAD, flush=True)
        for name in options.cases or CASES:
            outcomes.append(run_case(name, stage, expected))
            print(row(outcomes[-1]), flush=True)
    sys.exit(not all(outcome.equal for outcome in outcomes))


def row(outcome: Outcome) -> str:
    """Return a case as a row of the table."""
    again = "submits the cell again" if outcome.submitted_again else "finds it done, or in the queue"
    steps = ", ".join(map(str, outcome.resumed_from)) or "-"
    return (
        f"| {CASES[outcome.case].title} | {outcome.starts} | {steps} | {again} | "
        f"{'equal' if outcome.equal else 'DIFFERENT'} |"
    )


if __name__ == "__main__":
    main()
