"""Where a run happens: versions, device, commit, command."""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from medqa_finetune.record.schema import Environment

PACKAGES = (
    "medqa-finetune",
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "tokenizers",
    "hydra-core",
    "omegaconf",
    "sacrebleu",
    "rouge-score",
    "rapidfuzz",
    "rensa",
)


def describe_environment(
    device: str, precision: str | None, besides: Iterable[str] = (), command: Sequence[str] = ()
) -> Environment:
    """Return versions, device, precision and commit of this process, and the command that does the same again.

    Args:
        device: Name of the device, for display.
        precision: Precision of matrix products; None where there are none.
        besides: Further packages that a result depends on.
        command: The command; that of this process if empty.
    """
    return Environment(
        installed_versions(besides), device, precision, commit_of_code(), list(command) or _command_of_process()
    )


def installed_versions(besides: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of Python, of every package that can change any result, and of the packages in `besides`."""
    versions = {"python": sys.version.split()[0]}
    for package in dict.fromkeys((*PACKAGES, *besides)):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def same_place(one: Environment | None, other: Environment | None) -> bool:
    """Return whether predictions from two environments may be combined: same package versions and precision."""
    if one is None or other is None:
        return False
    # A package that only one environment lists does not affect the other.
    both = one.versions.keys() & other.versions.keys()
    return one.precision == other.precision and all(one.versions[name] == other.versions[name] for name in both)


def _command_of_process() -> list[str]:
    """Return the command line of this process, with `python -m` in place of the interpreter's and module's paths."""
    spec = sys.modules["__main__"].__spec__
    program = ["python", "-m", spec.name] if spec else [Path(sys.argv[0]).name]
    return [*program, *sys.argv[1:]]


def commit_of_code() -> str | None:
    """Return the commit of the checkout, `-changed` appended if tracked files differ; None outside a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("-changed" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    # No lock on the index: a kill would leave it behind, and it would block later commits.
    result = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(root), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return result.stdout.strip()
