"""Says in one screen whether a run can start here, and what each profile needs: `python -m medqa_finetune.doctor`."""

import dataclasses
import json
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from medqa_finetune.checkup import hubs, system
from medqa_finetune.checkup.result import Check, State, broken, guarded
from medqa_finetune.config.command_line import print_help, print_words, run_command, wants_help
from medqa_finetune.config.command_options import Options, describe, option, parse_options, split_options
from medqa_finetune.errors import EXIT_DONE, EXIT_RUN_FAILED, MedQAError

if TYPE_CHECKING:
    from medqa_finetune.checkup.memory import Need
    from medqa_finetune.checkup.trials import Trial
    from medqa_finetune.config.schema import Config


@dataclasses.dataclass(frozen=True)
class DoctorOptions(Options):
    """Options of `doctor`, in addition to the settings of an experiment."""

    hours: bool = option(
        False, "plan the hours of every profile on its card too; reads the corpus, and fetches it where it is missing"
    )
    format: str = option("text", "a screen, or one JSON object", allowed=("text", "json"))


USAGE = f"""\
usage: python -m medqa_finetune.doctor [key=value …] [group=choice …]

Says whether `python -m medqa_finetune.train` can run here with the same arguments: device, precisions, memory, 4-bit
weights, versions, disk, hubs and mirrors, model, corpus, fonts; and what each profile needs. Takes a few seconds, and
writes nothing.

  python -m medqa_finetune.doctor
  python -m medqa_finetune.doctor profile=t4 model=qwen2.5-7b corpus=csv corpus.path=pairs.csv
  python -m medqa_finetune.doctor profile=demo format=json

Exit codes: 0 a run can start, 1 something stops it, 2 an argument is impossible.

options:
{describe(DoctorOptions)}\
and every group and key that `python -m medqa_finetune.train --help` lists
"""


def main() -> NoReturn:
    """Run the command `doctor`, and end the process."""
    run_command(doctor)


def doctor(arguments: list[str]) -> int:
    """Print what stops a run with these arguments, and what each profile needs; return the exit code.

    Raises:
        ConfigError: an argument is impossible.
    """
    if wants_help(arguments):
        print_help(USAGE)
        return EXIT_DONE
    own, rest = split_options(DoctorOptions, arguments)
    options = parse_options(DoctorOptions, own)
    asked = _Background()
    cells, refused = _composed(rest)
    checks, needs = examine(rest, cells, asked, hours=options.hours)
    checks += refused
    if options.format == "json":
        print(json.dumps(as_object(cells, checks, needs), ensure_ascii=False, allow_nan=False))
    else:
        from medqa_finetune.checkup.screen import as_text

        print_words(as_text(" ".join(rest), checks, needs))
    return EXIT_RUN_FAILED if any(check.state is State.PROBLEM for check in checks) else EXIT_DONE


class _Background:
    """Asks the hubs while other checks run."""

    def __init__(self) -> None:
        self._check: Check | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._check = guarded("hubs", hubs.check_hubs)

    def check(self) -> Check:
        """Return what the hubs answered."""
        self._thread.join()
        assert self._check is not None  # noqa: S101 (`guarded` raises nothing)
        return self._check


def _composed(arguments: Sequence[str]) -> tuple[list["Config"], list[Check]]:
    """Return the cells that the arguments ask for; none, and a check that says why, where a package is broken."""
    try:
        from medqa_finetune.checkup.settings import compose

        return compose(arguments), []
    except MedQAError:
        raise
    except Exception as error:  # a broken package may raise anything
        return [], [Check("settings", State.PROBLEM, faults=[broken(error)])]


def examine(
    arguments: Sequence[str], cells: Sequence["Config"], asked: _Background, *, hours: bool
) -> tuple[list[Check], list["Need"]]:
    """Return all checks in the order of the screen, and what each profile needs."""
    checks = [guarded("system", system.check_system), guarded("packages", system.check_packages)]
    fonts = guarded("fonts", system.check_fonts)
    answered = asked.check()
    with tempfile.TemporaryDirectory(prefix="medqa-doctor-", ignore_cleanup_errors=True) as folder:
        try:
            device, needs = _device_and_needs(arguments, cells, Path(folder), hours=hours)
        except Exception as error:  # a broken package may raise anything
            device, needs = [Check("device", State.PROBLEM, faults=[broken(error)])], []
    cell_bytes = max((need.disk_bytes or 0 for need in needs if not need.name), default=0)
    outputs = cells[0].outputs if cells else "outputs"
    disk = guarded("disk", lambda: system.check_disk(outputs, cell_bytes * len(cells)))
    return [*checks, *device, disk, fonts, answered, *_input_checks(cells, answered)], needs


def _device_and_needs(
    arguments: Sequence[str], cells: Sequence["Config"], folder: Path, *, hours: bool
) -> tuple[list[Check], list["Need"]]:
    from medqa_finetune.checkup.device import device_checks, try_all
    from medqa_finetune.checkup.memory import needs_of, with_hours
    from medqa_finetune.checkup.settings import CARD_OF_PROFILE, architectures, of_profiles, to_try
    from medqa_finetune.checkup.trials import Request
    from medqa_finetune.methods.registry import method_of

    profiles = of_profiles(arguments) if cells else {}
    every = [*cells, *(cell for each in profiles.values() for cell in each)]
    folders = architectures((each.model for each in every if method_of(each.method).loads_model), folder)
    precisions = tuple(sorted({cell.precision for cell in cells}))
    trials: list[Trial] = try_all(Request(precisions, tuple(to_try(cells, profiles, folders))))
    quantizations = {cell.method.quantization for cell in cells} - {"none"}
    needs = needs_of({"": cells, **profiles} if cells else {}, trials)
    if hours:
        named = {"": cells, **profiles}
        needs = [with_hours(each, named[each.name], CARD_OF_PROFILE.get(each.name)) for each in needs]
    return device_checks(trials, quantizations), needs


def _input_checks(cells: Sequence["Config"], answered: Check) -> list[Check]:
    """Return the checks of models, corpora and optional packages, each once."""
    if not cells:
        return []
    from medqa_finetune.checkup.inputs import check_corpus, check_extras, check_model
    from medqa_finetune.methods.registry import method_of

    reached: Mapping[str, float | None] = answered.facts.get("reachable", {})
    found = []
    for model in dict.fromkeys(each.model for each in cells if method_of(each.method).loads_model):
        found.append(guarded("model", partial(check_model, model, reached)))
    for corpus in {repr(each.corpus): each.corpus for each in cells}.values():
        found.append(guarded("corpus", partial(check_corpus, corpus, reached)))
    extras = guarded("extras", lambda: check_extras(cells))
    return [*found, *([extras] if extras.state is not State.OK else [])]


def as_object(cells: Sequence["Config"], checks: Sequence[Check], needs: Sequence["Need"]) -> dict[str, Any]:
    """Return the findings as a JSON object; texts are in English."""
    problems = any(check.state is State.PROBLEM for check in checks)
    return {
        "ready": not problems,
        "exit_code": EXIT_RUN_FAILED if problems else EXIT_DONE,
        "cells": len(cells),
        "checks": [check.as_json() for check in checks],
        "needs": [dataclasses.asdict(need) | {"name": need.name or None} for need in needs],
    }


if __name__ == "__main__":
    main()
