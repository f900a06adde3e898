"""The environments that the runs ran in, and the commands that started them."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from medqa_finetune.record.schema import Record


@dataclass(frozen=True)
class Setting:
    """An environment that one or more runs share.

    Attributes:
        device: As the record names it.
        precision: Of the numbers, or a dash.
        commit: Of the code, or a dash.
        versions: Package and version.
        runs: Names of the runs.
        install: A command that installs the same packages.
    """

    device: str
    precision: str
    commit: str
    versions: tuple[tuple[str, str], ...]
    runs: tuple[str, ...]

    @property
    def install(self) -> str:
        """Return the command that installs the same versions."""
        others = ("python", "medqa-finetune")
        packages = [f"{name}=={version}" for name, version in self.versions if name not in others]
        return shlex.join(["pip", "install", *packages])


def settings_of(records: Iterable[Record]) -> list[Setting]:
    """Return the different environments, in the order in which they first appear."""
    found: dict[tuple[str, str, str, tuple[tuple[str, str], ...]], list[str]] = {}
    for record in records:
        environment = record.environment
        if environment is not None:
            versions = tuple(environment.versions.items())
            key = (environment.device, environment.precision or "–", environment.commit or "–", versions)
            found.setdefault(key, []).append(record.name)
    return [Setting(*key, runs=tuple(names)) for key, names in found.items()]


def commands_of(records: Iterable[Record]) -> list[tuple[str, str]]:
    """Return name and command line of every run that knows its own, ready for a shell."""
    return [
        (record.name, " ".join(_quoted(part) for part in record.environment.command))
        for record in records
        if record.environment is not None and record.environment.command
    ]


def _quoted(part: str) -> str:
    # A value with single quotes, which Hydra needs for some, reads better between double ones.
    return f'"{part}"' if "'" in part and not set(part) & set('"$`\\!\n') else shlex.quote(part)
