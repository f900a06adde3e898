"""The machine without its devices, and what is installed: Python, memory, packages, fonts, the disk."""

import contextlib
import os
import platform
import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from medqa_finetune.checkup.result import Check, State
from medqa_finetune.errors import Fault
from medqa_finetune.languages.translate import say
from medqa_finetune.memory import in_units, physical_bytes
from medqa_finetune.versions import PROJECT, install_command, untested_versions

# Shown with their versions; the others are counted.
SHOWN = ("torch", "transformers", "peft", "bitsandbytes", "datasets")
# Below this, a disk is full before a first checkpoint and the predictions are written.
LEAST_FREE = 2**30


def check_system() -> Check:
    """Say which Python, cores and memory are here."""
    memory: int | None = None
    with contextlib.suppress(ImportError):  # psutil, which `check_packages` misses too
        memory = physical_bytes()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    python = platform.python_version()
    facts = {"python": python, "system": platform.system(), "machine": platform.machine(), "cores": cores}
    facts |= {"memory_bytes": memory, "executable": sys.executable}
    line = say(
        "{system} {machine}, Python {python}, {cores} cores, {memory} of memory",
        system=platform.system(),
        machine=platform.machine(),
        python=python,
        cores=cores,
        memory="?" if memory is None else in_units(memory),
    )
    return Check("system", State.OK, line, facts)


def check_packages() -> Check:
    """Compare the installed packages with those that this one needs, and with the versions that it was tested with."""
    installed = {name: found for name in required() if (found := version_of(name)) is not None}
    missing = sorted(name for name in required() if name not in installed)
    outside = untested_versions()
    facts = {
        "installed": installed,
        "missing": missing,
        "untested": {each.package: each.installed for each in outside},
    }
    if missing:
        fault = Fault(
            "not-installed",
            f"{len(missing)} of {len(required())} packages are not installed",
            got=missing,
            hint=f"Run `{install_command(missing)}`.",
        )
        return Check("packages", State.PROBLEM, facts=facts, faults=[fault])
    shown = ", ".join(f"{name} {installed[name]}" for name in SHOWN if name in installed)
    if not outside:
        return Check("packages", State.OK, say("as tested: {shown}", shown=shown), facts)
    names = ", ".join(f"{each.package} {each.installed}" for each in outside)
    hint = f"Run `{install_command([each.package for each in outside])}`."
    fault = Fault("untested-version", f"not tested with these versions: {names}", hint=hint)
    return Check("packages", State.WARNING, shown, facts, [fault])


def required() -> list[str]:
    """Return the names of the packages that this one needs here, without its extras."""
    from packaging.requirements import Requirement

    try:
        wanted = map(Requirement, requires(PROJECT) or [])
    except PackageNotFoundError:  # run from a checkout, not installed
        return []
    return [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]


def version_of(package: str) -> str | None:
    """Return the installed version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def check_disk(outputs: str, needed: int) -> Check:
    """Write a file where runs will be, and say how much room is there.

    Args:
        outputs: Folder of runs, which need not exist.
        needed: Bytes that the runs take at most; 0 where that is not known.
    """
    from medqa_finetune.record.files import existing_part

    folder = existing_part(Path(outputs))
    free = shutil.disk_usage(folder).free
    facts = {"outputs": outputs, "folder": str(folder.absolute()), "free_bytes": free, "writable": True}
    facts |= {"needed_bytes": needed or None}
    line = say("outputs={outputs}: {free} are free", outputs=outputs, free=in_units(free))
    other = "Give outputs=DIR in a folder that is writable."
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        problem = f"cannot be written to ({error.strerror})"
        fault = Fault("not-writable", problem, key="outputs", got=outputs, hint=other)
        return Check("disk", State.PROBLEM, facts=facts | {"writable": False}, faults=[fault])
    if free >= max(needed, LEAST_FREE):
        return Check("disk", State.OK, line, facts)
    problem = f"the runs may need {in_units(needed or LEAST_FREE)}; {in_units(free)} are free"
    hint = "Make room, or give outputs=DIR on another disk."
    fault = Fault("disk-full", problem, key="outputs", got=outputs, hint=hint)
    return Check("disk", State.PROBLEM if free < needed else State.WARNING, facts=facts, faults=[fault])


def check_fonts() -> Check:
    """Look for a font with Chinese characters, which the pictures with Chinese titles need."""
    from medqa_finetune.compat.fonts import chinese_font

    font = chinese_font()
    if font is not None:
        return Check("fonts", State.OK, say("Chinese: {font}", font=font), {"chinese": [font]})
    hint = "Install one: `apt-get install fonts-noto-cjk`, or `conda install -c conda-forge font-ttf-noto-cjk`."
    fault = Fault("font-missing", "no font with Chinese characters; pictures stay in English", hint=hint)
    return Check("fonts", State.WARNING, facts={"chinese": []}, faults=[fault])
