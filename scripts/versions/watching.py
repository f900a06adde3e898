"""Tries one set of versions: makes an environment, and runs the quick suite and two demo cells in it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.versions.locks import (
    LOCK,
    ROOT,
    VLLM_LOCK,
    ResolutionError,
    above_floors,
    floors,
    program,
    write_lowest,
)
from scripts.versions.results import (
    Deprecation,
    Suite,
    Warned,
    group_deprecations,
    read_junit,
    read_warnings,
    warnings_in_log,
)

NEWEST, LOWEST, LOCKED, VLLM = "newest", "lowest", "locked", "vllm"
SETS = {
    NEWEST: "the newest releases within the ranges of pyproject.toml",
    LOWEST: "its floors, and of what they require in turn the newest",
    LOCKED: LOCK,
    VLLM: f"{VLLM_LOCK}, without vLLM itself, which needs a GPU",
}
CELLS = ("lora_n200", "qlora_n200")
DEMO = ("-m", "medqa_finetune.train", "-m", "profile=demo", "method=lora,qlora", "data=20k")
# Of what an environment has, in the table.
KEY_PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "numpy")
ASKS = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
# pytest's exit codes for suites that ran to their end.
ENDED = (0, 1)
# Lines of a program that failed.
TAIL = 15
# Environment variables that would change the results.
DROPPED = ("PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "PYTEST_ADDOPTS", "VIRTUAL_ENV", "PIP_CONSTRAINT")


@dataclass(frozen=True)
class Asked:
    """What to do with a set of versions.

    Attributes:
        extras: Extras installed in addition to `dev`.
        tests: Folders and files in place of the whole quick suite.
        demo: Train the two cells.
    """

    extras: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    demo: bool = True


@dataclass
class Watched:
    """Results of a set of versions.

    Attributes:
        name: Of the set.
        python: Version.
        versions: Of `KEY_PACKAGES`.
        faults: Errors outside tests and cells.
        suite: The tests; None where they did not run to their end.
        cells: Of the demo: `done`, or what is wrong.
        deprecations: Of others.
        above_floors: Dependencies of the lowest set that no wheel lets be at their floor: floor and version.
        seconds: From the start.
    """

    name: str
    python: str
    versions: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    suite: Suite | None = None
    cells: dict[str, str] = field(default_factory=dict)
    deprecations: list[Deprecation] = field(default_factory=list)
    above_floors: dict[str, tuple[str, str]] = field(default_factory=dict)
    seconds: int = 0

    def new_deprecations(self) -> list[Deprecation]:
        """Return those that are a reason to fail."""
        return [each for each in self.deprecations if each.known is None]

    def fine(self, allow_warnings: bool) -> bool:
        """Return whether nothing failed."""
        failed = self.faults or self.suite is None or self.suite.failed or set(self.cells.values()) - {"done"}
        return not failed and (allow_warnings or not self.new_deprecations())


def watch(name: str, python: tuple[str, Path], folder: Path, asked: Asked) -> Watched:
    """Install a set of versions, try it, and return the results.

    Args:
        name: One of `SETS`.
        python: Version and path of the Python that the environment is made with.
        folder: Empty; the environment, the logs and the demo's runs go there.
        asked: What is done.
    """
    started = time.monotonic()
    watched = Watched(name, python[0])
    try:
        executable = _install(watched, python[1], folder, asked)
        done = subprocess.run([executable, "-c", ASKS, *KEY_PACKAGES], capture_output=True, text=True, check=True)
        watched.versions = json.loads(done.stdout)
        warned = _run_tests(watched, executable, folder, asked)
        if asked.demo:
            warned += _run_demo(watched, executable, folder)
        watched.deprecations = group_deprecations(warned)
    except ResolutionError as error:
        watched.faults.append(str(error))
    watched.seconds = round(time.monotonic() - started)
    return watched


def _install(watched: Watched, python: Path, folder: Path, asked: Asked) -> Path:
    environment = folder / "environment"
    extras = tuple(dict.fromkeys(("dev", *asked.extras)))
    chosen = ["--upgrade", "--upgrade-strategy", "eager"]
    if watched.name == LOWEST:
        _say(watched, "resolving the floors")
        constraints = folder / "lowest.txt"
        write_lowest(constraints, python, extras)
        watched.above_floors = above_floors(constraints.read_text(encoding="utf-8"), floors(extras))
        chosen = ["-c", str(constraints)]
    elif watched.name != NEWEST:
        chosen = ["-c", {LOCKED: LOCK, VLLM: VLLM_LOCK}[watched.name]]
    _say(watched, "installing")
    project = f".[{','.join(extras)}]"
    _must([str(python), "-m", "venv", str(environment)], folder / "venv.txt")
    executable = program(environment, "python")
    _must([str(executable), "-m", "pip", "install", "-q", "-e", project, *chosen], folder / "install.txt")
    code, said = _logged([str(executable), "-m", "pip", "check"], folder / "check.txt", ROOT)
    if code != 0:
        watched.faults += [f"pip check: {line}" for line in said.splitlines()]
    return executable


def _run_tests(watched: Watched, executable: Path, folder: Path, asked: Asked) -> list[Warned]:
    _say(watched, "testing")
    junit, warned = folder / "junit.xml", folder / "warnings.jsonl"
    command = [
        str(executable), "-m", "pytest", "-n", "logical", "-m", "not slow", "-q", "-p", "no:cacheprovider",
        "--junit-xml", str(junit), "--warnings-to", str(warned), *asked.tests,
    ]  # fmt: skip
    code, said = _logged(command, folder / "tests.txt", ROOT)
    if junit.is_file():
        watched.suite = read_junit(junit)
    if code not in ENDED or watched.suite is None:
        watched.faults.append(f"the tests did not run to their end (exit code {code}):\n{_tail(said)}")
    return read_warnings(warned)


def _run_demo(watched: Watched, executable: Path, folder: Path) -> list[Warned]:
    _say(watched, "training two cells of the demo")
    work = folder / "demo"
    work.mkdir()
    code, said = _logged(
        [str(executable), *DEMO, f"outputs={work / 'outputs'}"], folder / "demo.txt", work, PYTHONWARNINGS="default"
    )
    watched.cells = read_cells(work)
    if code != 0 or set(watched.cells.values()) != {"done"}:
        watched.faults.append(f"the demo ended with exit code {code}:\n{_tail(said)}")
    return [*warnings_in_log(said, "demo"), *_warnings_of_cells(work)]


def read_cells(folder: Path) -> dict[str, str]:
    """Return the state of each cell of the demo, from the records below a folder."""
    records: dict[str, Any] = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in folder.rglob("record.json")
    }
    return {cell: str(records[cell].get("status")) if cell in records else "no record" for cell in CELLS}


def _warnings_of_cells(folder: Path) -> Iterator[Warned]:
    for path in sorted(folder.rglob("log.txt")):
        yield from warnings_in_log(path.read_text(encoding="utf-8", errors="replace"), path.parent.name)


def _must(command: Sequence[str], log: Path) -> None:
    code, said = _logged(command, log, ROOT)
    if code != 0:
        raise ResolutionError(f"{' '.join(command)} ended with exit code {code}:\n{_tail(said)}")


def _logged(command: Sequence[str], log: Path, folder: Path, **settings: str) -> tuple[int, str]:
    """Run a command with its output in a file, and return its exit code and that output."""
    # Leftovers of a process that ends early are removed with the folder.
    temporary = log.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    surroundings = {key: value for key, value in os.environ.items() if key not in DROPPED}
    surroundings["TMPDIR"] = str(temporary)
    surroundings |= {"HF_HUB_OFFLINE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONUTF8": "1", **settings}
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command, cwd=folder, env=surroundings, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            check=False,
        )  # fmt: skip
    return done.returncode, log.read_text(encoding="utf-8", errors="replace")


def _tail(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-TAIL:])


def _say(watched: Watched, step: str) -> None:
    print(f"{watched.name}, Python {watched.python}: {step}", file=sys.stderr, flush=True)
