"""Kill the demo matrix at random moments, and compare its results with those of an undisturbed one.

python scripts/matrix_kills.py --kills 6 --seed 0

The demo matrix runs twice: undisturbed, and with its launcher or one of its cells killed (`kill -9`) at random moments,
the same command typed again each time. The two CSV files must be equal byte by byte, but for times and memory.
"""

import argparse
import csv
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from medqa_finetune.record.run_dir import find_runs  # noqa: E402

# Columns of costs, which vary between runs.
COSTS = ("peak_vram_gib", "peak_rss_gib", "train_seconds", "train_samples_per_second", "train_tokens_per_second",
         "train_disturbed_rate", "eval_samples_per_second", "eval_tokens_per_second",
         "model_flops_utilization")  # fmt: skip
LIMIT_SECONDS = 3600


def main() -> None:
    """Run both matrices, compare them, and exit 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", help="for the command, such as data.scale=0.002")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        whole, killed = Path(place) / "whole", Path(place) / "killed"
        _run(whole, options.overrides)
        kills = _run_with_kills(killed, options.overrides, options.kills, random.Random(options.seed))  # noqa: S311
        expected, got = summary_of(whole), summary_of(killed)
    print("\n".join(kills))
    if got != expected:
        print(f"undisturbed:\n{expected.decode()}\nkilled:\n{got.decode()}")
    rows = len(got.splitlines()) - 1
    print(f"{rows} rows: {'byte-equal but for times and memory' if got == expected else 'DIFFERENT'}")
    sys.exit(got != expected)


def _command(outputs: Path, overrides: list[str]) -> list[str]:
    arguments = ["-m", "profile=demo", f"outputs={outputs}", *overrides]
    return [sys.executable, "-m", "medqa_finetune.train", *arguments]


def _run(outputs: Path, overrides: list[str]) -> None:
    subprocess.run(_command(outputs, overrides), check=True, stderr=subprocess.DEVNULL, timeout=LIMIT_SECONDS)


def _run_with_kills(outputs: Path, overrides: list[str], kills: int, chance: random.Random) -> list[str]:
    """Run the matrix, killing the launcher and a cell in turn; return one line per kill."""
    said = []
    for number in range(kills):
        with subprocess.Popen(_command(outputs, overrides), stderr=subprocess.DEVNULL) as launcher:
            time.sleep(chance.uniform(5, 40))
            cells = psutil.Process(launcher.pid).children() if launcher.poll() is None else []
            # The preflight is a child too, and may be killed as well.
            victim = cells[0].pid if number % 2 and cells else launcher.pid
            statuses = [record.status for run in find_runs(outputs) if (record := run.read()) is not None]
            said.append(f"kill -9 of {'the launcher' if victim == launcher.pid else 'a cell'}; runs were {statuses}")
            if launcher.poll() is None:
                os.kill(victim, signal.SIGKILL)
            if victim != launcher.pid and launcher.poll() is None:
                # The launcher starts the killed cell again; it is stopped in good order a little later.
                time.sleep(chance.uniform(0, 20))
                launcher.send_signal(signal.SIGINT)
            launcher.wait(LIMIT_SECONDS)
    _run(outputs, overrides)
    return said


def summary_of(outputs: Path) -> bytes:
    """Return the summary's CSV without the columns of costs."""
    command = [sys.executable, "-m", "medqa_finetune.summarize", f"outputs={outputs}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=LIMIT_SECONDS)
    with (outputs / "summary" / "results_summary.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    text = io.StringIO()
    writer = csv.DictWriter(text, [name for name in rows[0] if name not in COSTS], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


if __name__ == "__main__":
    main()
