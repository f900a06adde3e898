"""Disturb cells on a real cluster on this machine, and compare their results with an undisturbed run.

python scripts/cluster_kills.py slurm                  every case on SLURM
python scripts/cluster_kills.py ray node-lost left     some cases on Ray

SLURM: as root, with slurmctld, slurmd, slurm-client and munge installed. Ray: with the extra ray. A case takes one to
four minutes. After each disturbance the same command is typed again. Results must be equal byte by byte, but for times
and memory.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from scripts.clusters import ray_cases, ray_server, slurm_cases, slurm_server  # noqa: E402
from scripts.clusters.stage import Case, Outcome, Stage, run_case, undisturbed  # noqa: E402

HEAD = """\
| what happens | starts of the cell | resumed from step | same command again | results |
|---|---|---|---|---|"""
CASES: Mapping[str, Mapping[str, Case[Any]]] = {"slurm": slurm_cases.CASES, "ray": ray_cases.CASES}


def main() -> None:
    """Run cases, and exit 0 if every one came to equal results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cluster", choices=list(CASES))
    parser.add_argument(
        "cases", nargs="*", metavar="case", help="; ".join(f"{at}: {', '.join(CASES[at])}" for at in CASES)
    )
    options = parser.parse_args()
    cases = CASES[options.cluster]
    if unknown := [name for name in options.cases if name not in cases]:
        parser.error(f"{unknown[0]}: {options.cluster} has {', '.join(cases)}.")
    with tempfile.TemporaryDirectory() as place, _stage(options.cluster, Path(place)) as stage:
        expected = undisturbed(stage)
        outcomes = []
        print(HEAD, flush=True)
        for name in options.cases or cases:
            outcomes.append(run_case(name, cases[name], stage, expected))
            print(row(cases[name].title, outcomes[-1]), flush=True)
    sys.exit(not all(outcome.equal for outcome in outcomes))


@contextmanager
def _stage(cluster: str, place: Path) -> Iterator[Stage]:
    if cluster == "slurm":
        with slurm_server.server(place / "slurm") as variables:
            yield slurm_cases.SlurmStage(place, variables)
    else:
        with ray_server.server() as (server, variables):
            yield ray_cases.RayStage(place, variables, server)


def row(title: str, outcome: Outcome) -> str:
    """Return a case as a row of the table."""
    again = "runs the cell again" if outcome.submitted_again else "finds it done, or in the queue"
    steps = ", ".join(map(str, outcome.resumed_from)) or "-"
    return f"| {title} | {outcome.starts} | {steps} | {again} | {'equal' if outcome.equal else 'DIFFERENT'} |"


if __name__ == "__main__":
    main()
