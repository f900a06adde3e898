"""Where a run happens: versions, device, commit, command."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from medqa_finetune.record.schema import Environment

PACKAGES = (
    "medqa-finetune", "torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "tokenizers",
    "hydra-core", "omegaconf", "sacrebleu", "rouge-score", "rapidfuzz", "rensa",
    "liger-kernel",
)  # fmt: skip


def describe_environment(device: str, precision: str | None) -> Environment:
    """Return versions, device, precision, commit and command of this process."""
    return Environment(installed_versions(), device, precision, commit_of_code(), _command())


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of every package that can change a result."""
    versions = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _command() -> list[str]:
    """Return the command line of this process, in the form that runs again anywhere."""
    spec = sys.modules["__main__"].__spec__
    program = ["python", "-m", spec.name] if spec else [Path(sys.argv[0]).name]
    return [*program, *sys.argv[1:]]


def commit_of_code() -> str | None:
    """Return the commit the code was checked out at, `-changed` appended if files differ; None outside a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("-changed" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    result = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return result.stdout.strip()
