"""Measure this project on this machine, and installed peers for comparison; results can be saved as JSON.

python scripts/benchmark.py speed                                        our training and answering, tiny model, CPU
python scripts/benchmark.py speed --trl VENV/bin/python --llamafactory VENV/bin/python --out benchmarks/cpu.json
python scripts/benchmark.py speed --device cuda --model qwen2.5-3b --methods lora qlora --tokens 512 2048 4096 \\
    --rows 2000 --out benchmarks/cuda.json                               random weights, nothing is downloaded
python scripts/benchmark.py answering                                    our generation and vLLM's, same questions
python scripts/benchmark.py options --methods lora full                  optimizers and kernels, each in turn
python scripts/benchmark.py profile                                      where the time of that work goes
python scripts/benchmark.py growth --out benchmarks/growth.json          seconds and memory by number of examples
python scripts/benchmark.py startup                                      --help, and a cell around its work
python scripts/benchmark.py summary                                      summarize over six and 1,000 made-up runs
python scripts/benchmark.py scores                                       seconds to score 1,000 predictions, correctness
python scripts/benchmark.py roofline --gpu t4 h200                       a step of Qwen2.5-3B on a card that is not here
python scripts/benchmark.py leaks                                        leaks planted in a corpus, and how many remain

Only ratios and trends within one run are comparable; a busy machine gives wide spreads.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# The parts are imported as one package, also in peers' environments, so this folder must not be on the path.
sys.path[:0] = [str(ROOT)]

from medqa_finetune.config.command_line import run_command  # noqa: E402
from medqa_finetune.errors import ConfigError, Fault  # noqa: E402
from medqa_finetune.model.cards import CARDS  # noqa: E402
from scripts.benchmarks.answering import answering  # noqa: E402
from scripts.benchmarks.growth import growth  # noqa: E402
from scripts.benchmarks.leaks import leaks  # noqa: E402
from scripts.benchmarks.make_work import ARCHITECTURES, LONGEST  # noqa: E402
from scripts.benchmarks.options import OPTIONS, options  # noqa: E402
from scripts.benchmarks.profile import profile  # noqa: E402
from scripts.benchmarks.roofline import METHODS, roofline  # noqa: E402
from scripts.benchmarks.scores import scores  # noqa: E402
from scripts.benchmarks.speed import speed  # noqa: E402
from scripts.benchmarks.startup import startup  # noqa: E402
from scripts.benchmarks.summary import summary  # noqa: E402

TINY_TOKENIZER = ROOT / "medqa_finetune" / "model" / "tiny"


def main(arguments: list[str]) -> int:
    """Run the requested benchmark, and return the exit code."""
    asked = _parser().parse_args(arguments)
    for name in ("pairs", "tokenizer", "golden"):
        path = getattr(asked, name, None)
        if path is not None and not path.exists():
            problem = f"no such {'folder' if name == 'tokenizer' else 'file'}"
            raise ConfigError(Fault("file-missing", problem, key=f"--{name}", got=str(path)))
    benchmarks = {
        "speed": speed, "profile": profile, "growth": growth, "startup": startup, "summary": summary, "scores": scores,
        "leaks": leaks, "answering": answering, "options": options,
        "roofline": roofline,
    }  # fmt: skip
    return benchmarks[asked.run](asked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runs = parser.add_subparsers(dest="run", required=True)
    works, others = _add_works(runs), _add_others(runs)
    _add_roofline(runs)
    for each in runs.choices.values():
        each.add_argument("--out", type=Path, help="JSON file that keeps machine, date and every figure")
        each.add_argument("--scratch", type=Path, help="folder for what is made meanwhile; the system's by default")
    for each in (*works, *others):
        each.add_argument("--pairs", type=Path, metavar="FILE.jsonl", help="question, answer; the embedded corpus")
    return parser


def _add_works(runs: Any) -> list[argparse.ArgumentParser]:
    """Add the subcommands that train a model; return them."""
    compares = runs.add_parser("speed", help="training and answering compared with peers")
    profiles = runs.add_parser("profile", help="where the time of training and answering goes")
    tries = runs.add_parser("options", help="optimizers and kernels of training, one after another")
    for each in (compares, profiles):
        _add_work(each, ("lora", "qlora"))
    _add_work(tries, ("lora", "qlora", "full"))
    for each in (compares, tries):
        each.add_argument("--rounds", type=int, default=3)
    tries.add_argument("--try", nargs="+", choices=[*OPTIONS][1:], default=[], dest="tried", metavar="OPTION",
                       help=f"of {', '.join([*OPTIONS][1:])}; all that the device can by default")  # fmt: skip
    compares.add_argument("--trl", type=Path, metavar="PYTHON", help="of an environment with trl")
    compares.add_argument("--llamafactory", type=Path, metavar="PYTHON", help="of an environment with llamafactory")
    return [compares, profiles, tries]


def _add_others(runs: Any) -> list[argparse.ArgumentParser]:
    """Add the other subcommands; return those that accept a corpus."""
    answers = runs.add_parser("answering", help="our own decoding compared with vLLM")
    answers.add_argument("--model", choices=ARCHITECTURES, default="tiny", help="architecture; weights are random")
    answers.add_argument("--methods", nargs="+", choices=("none", "lora"), default=["none", "lora"])
    answers.add_argument("--eval-rows", type=int, default=200, help="questions (default: %(default)s)")
    answers.add_argument("--max-new-tokens", type=int, default=64)
    answers.add_argument("--rounds", type=int, default=3)
    grows = runs.add_parser("growth", help="cost by number of pairs")
    grows.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000], metavar="PAIRS")
    grows.add_argument("--largest-setup", type=int, default=100_000, help="of training set-up (default: %(default)s)")
    grows.add_argument("--tokenizer", type=Path, default=TINY_TOKENIZER, help="folder; the shipped one by default")
    starts = runs.add_parser("startup", help="time before and around the work")
    starts.add_argument("--rounds", type=int, default=3)
    sums = runs.add_parser("summary", help="summarize over made-up run folders")
    sums.add_argument("--runs", type=int, nargs="+", default=[1000], help="of the large ones (default: 1000)")
    sums.add_argument("--questions", type=int, default=1000, help="predictions of a run (default: %(default)s)")
    scored = runs.add_parser("scores", help="seconds to score answers; differences from others' values")
    scored.add_argument("--answers", type=int, default=1000)
    scored.add_argument("--characters", type=int, default=300)
    scored.add_argument("--golden", type=Path, metavar="FILE.jsonl", help="answers with expected scores, to compare")
    leaking = runs.add_parser("leaks", help="plant leaks, and count what of them reaches the training set")
    leaking.add_argument("--held-out", type=int, default=150, help="test questions, and validation ones")
    leaking.add_argument("--seed", type=int, default=0, help="of the split")
    return [answers, grows, scored, leaking]


def _add_roofline(runs: Any) -> None:
    steps = runs.add_parser("roofline", help="a step on a card that is not here, by operators and data sheet")
    steps.add_argument("--gpu", nargs="+", choices=CARDS, default=["t4"], metavar="CARD", help=", ".join(CARDS))
    steps.add_argument("--methods", nargs="+", choices=METHODS, default=["lora"])
    steps.add_argument("--precision", choices=("bf16", "fp16", "fp32"), help="the card's best by default")
    steps.add_argument("--examples", type=int, default=4, help="in a forward pass (default: %(default)s)")
    steps.add_argument("--length", type=int, default=1024, help="tokens of each (default: %(default)s)")
    steps.add_argument("--rows", type=int, default=24, help="questions answered at a time (default: %(default)s)")
    steps.add_argument("--no-gradient-checkpointing", action="store_true")
    steps.add_argument("--published", action="store_true", help="compare with published figures of others instead")
    steps.add_argument("--coefficients", action="store_true", help="those of model/roofline.py, counted anew")


def _add_work(parser: argparse.ArgumentParser, methods: Sequence[str]) -> None:
    parser.add_argument("--model", choices=ARCHITECTURES, default="tiny", help="architecture; weights are random")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="fp32 on the CPU, bf16 on CUDA")
    parser.add_argument("--methods", nargs="+", choices=methods, default=["lora"])
    parser.add_argument("--tokens", type=int, nargs="*", default=[], help="further work, all pairs of this length")
    parser.add_argument("--rows", type=int, default=400, help="training pairs of real lengths (default: %(default)s)")
    parser.add_argument("--eval-rows", type=int, default=200, help="questions (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="pairs per optimizer step (default: %(default)s)")
    parser.add_argument("--micro-batch", type=int, help="of these, in one forward pass; all by default")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--gradient-checkpointing", action="store_true", help="for everybody, to save memory")
    parser.add_argument("--own-defaults", action="store_true", help="our own dropout, micro-batch and checkpointing")
    parser.add_argument("--longest", type=int, default=LONGEST, help="characters of a pair (default: %(default)s)")
    parser.add_argument("--tokenizer", type=Path, help="folder; trained on the pairs by default")


if __name__ == "__main__":
    run_command(main)
