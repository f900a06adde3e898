"""Collects the environments of the runs, and the commands that started them."""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from medqa_finetune.record.schema import Record
from medqa_finetune.report.messages import label
from medqa_finetune.report.messages.language import Text

# A CPU's name in records.
THREADS = re.compile(r"CPU, (\d+) threads")


@dataclass(frozen=True)
class Setting:
    """An environment that one or more runs share.

    Attributes:
        device: Device name from the record.
        precision: Compute precision, or a dash.
        commit: Commit of the code, or a dash.
        versions: (package, version) pairs.
        runs: Names of the runs.
        install: Command that installs the same package versions.
    """

    device: str
    precision: str
    commit: str
    versions: tuple[tuple[str, str], ...]
    runs: tuple[str, ...]

    @property
    def device_shown(self) -> Text:
        """The device in words; a GPU by its name."""
        threads = THREADS.fullmatch(self.device)
        if threads is None:
            return Text(*[self.device.upper() if self.device == "cpu" else self.device] * 2)
        return label("device.thread") if threads[1] == "1" else label("device.threads", threads=threads[1])

    @property
    def install(self) -> str:
        """Command that installs the same package versions."""
        others = ("python", "medqa-finetune")
        packages = [f"{name}=={version}" for name, version in self.versions if name not in others]
        return shlex.join(["pip", "install", *packages])


def settings_of(records: Iterable[Record]) -> list[Setting]:
    """Return the distinct environments, in order of first appearance."""
    found: dict[tuple[str, str, str, tuple[tuple[str, str], ...]], list[str]] = {}
    for record in records:
        environment = record.environment
        if environment is not None:
            versions = tuple(environment.versions.items())
            key = (environment.device, environment.precision or "–", environment.commit or "–", versions)
            found.setdefault(key, []).append(record.name)
    return [Setting(*key, runs=tuple(names)) for key, names in found.items()]


def commands_of(records: Iterable[Record]) -> list[tuple[str, str]]:
    """Return (name, command line) of every run with a recorded command, quoted for a shell."""
    return [
        (record.name, " ".join(_quoted(part) for part in record.environment.command))
        for record in records
        if record.environment is not None and record.environment.command
    ]


def _quoted(part: str) -> str:
    # Values with single quotes, which Hydra sometimes needs, are more readable in double quotes.
    return f'"{part}"' if "'" in part and not set(part) & set('"$`\\!\n') else shlex.quote(part)
