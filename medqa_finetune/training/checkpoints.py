"""Checkpoints: written to a temporary folder, hashed, verified, renamed into place, ordered by step.

Trainer's own are written in place, chosen by the highest number without verification, and rotated by file time: a kill,
a full disk or a clock set back can cost the whole run.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from medqa_finetune.compat.pydantic import fault_of
from medqa_finetune.errors import DataError, Fault
from medqa_finetune.record.checksums import damages, stamps_below
from medqa_finetune.record.files import TEMPORARY_PREFIX, sweep, sync, write_json
from medqa_finetune.record.lease import check_held
from medqa_finetune.record.schema import FileStamp

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
PROGRESS = "progress.json"
NAME = re.compile(r"step-([0-9]{1,12})")
# If the newest is damaged, training resumes from the one before it.
KEPT = 2
# Pickled arguments and an empty model card, which nothing reads.
UNWANTED = ("training_args.bin", "README.md")


@dataclass(frozen=True)
class Manifest:
    """The manifest of a checkpoint; it is written last, so a folder without one is incomplete.

    Attributes:
        step: Optimizer step.
        identity: Identity of the run.
        best_step: Step of the lowest validation loss so far, whose checkpoint this one needs; 0 for none.
        files: All other files in the folder.
    """

    step: int
    identity: str
    best_step: int
    files: dict[str, FileStamp]


MANIFESTS = TypeAdapter(Manifest)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Folder that contains one folder `step-N` per checkpoint.
        identity: Identity of the run; checkpoints of other runs are not used.
        published: Called when a new checkpoint is there.
    """

    def __init__(self, folder: Path, identity: str, published: Callable[[], None] = lambda: None) -> None:
        self.folder = folder
        self.identity = identity
        self._published = published

    @property
    def trainer_folder(self) -> Path:
        """Temporary folder in which Trainer writes a checkpoint before `publish`."""
        return self.folder / f"{TEMPORARY_PREFIX}trainer"

    def written(self, step: int) -> Path:
        """Return the folder in which Trainer has written a step's checkpoint, before `publish`."""
        return self.trainer_folder / f"checkpoint-{step}"

    def path(self, step: int) -> Path:
        """Return the folder of a step's checkpoint."""
        return self.folder / f"step-{step}"

    def steps(self) -> list[int]:
        """Return the steps of all checkpoint folders, the newest first, without verification."""
        folders = self.folder.iterdir() if self.folder.is_dir() else ()
        found = ((NAME.fullmatch(path.name), path) for path in folders)
        return sorted((int(name[1]) for name, path in found if name and path.is_dir()), reverse=True)

    def newest(self) -> int | None:
        """Return the step of the newest undamaged checkpoint whose best checkpoint is undamaged too, or None.

        Damaged checkpoints are logged with their faults.
        """
        for step in self.steps():
            fault = self.fault_of(step)
            if fault is None:
                return step
            log.warning("%s is not used: %s", self.path(step), self._brief(fault).line())
        return None

    def fault_of(self, step: int) -> Fault | None:
        """Return what is wrong with a checkpoint, or None if training can resume from it."""
        try:
            manifest = self._read_verified(step)
            if manifest.best_step not in (0, step):
                self._read_verified(manifest.best_step)
        except DataError as error:
            return error.faults[0]
        return None

    def _brief(self, fault: Fault) -> Fault:
        """Return a fault with the path of its file relative to the checkpoints of the run."""
        return fault.but(file=Path(str(fault.file)).relative_to(self.folder).as_posix())

    def _read_verified(self, step: int) -> Manifest:
        folder = self.path(step)
        manifest = read_manifest(folder / MANIFEST)
        if manifest.identity != self.identity:
            problem = "the checkpoint belongs to another run"
            raise DataError(Fault("other-run", problem, key="identity", got=manifest.identity, file=str(folder)))
        if manifest.step != step:
            problem = f"the checkpoint is not of step {step}"
            raise DataError(Fault("other-step", problem, key="step", got=manifest.step, file=str(folder)))
        found = damages(folder, manifest.files)
        if found:
            problem = str(found[0]) + (f" ({len(found)} files)" if len(found) > 1 else "")
            raise DataError(Fault("damaged", problem, file=str(folder)))
        return manifest

    def publish(self, step: int, best_step: int, progress: Mapping[str, object]) -> None:
        """Make what Trainer has written in `trainer_folder` the checkpoint of `step`, then remove old ones.

        Args:
            step: Optimizer step.
            best_step: Step whose checkpoint is never removed; 0 for none yet.
            progress: What else resuming needs, as JSON values.

        Raises:
            DataError: the files do not read back as they were written.
        """
        written = self.written(step)
        for name in UNWANTED:
            (written / name).unlink(missing_ok=True)
        write_json(written / PROGRESS, progress)
        for path in written.rglob("*"):
            if path.is_file():
                sync(path)
        manifest = Manifest(step, self.identity, best_step, stamps_below(written))
        write_json(written / MANIFEST, asdict(manifest))
        check_held(self.folder)
        self._remove(step)  # a damaged one of the same step, which the resumed run did not use
        written.rename(self.path(step))
        sync(self.folder)
        fault = self.fault_of(step)
        if fault is not None:
            problem = f"the checkpoint does not read back as it was written: {fault.problem}"
            raise DataError(fault.but(problem=problem, hint="Check that the disk is healthy."))
        self._remove_unneeded(best_step)
        self._published()

    def read_progress(self, step: int) -> dict[str, object]:
        """Return the `progress` that `publish` stored with a step."""
        content: dict[str, object] = json.loads((self.path(step) / PROGRESS).read_bytes())
        return content

    def sweep(self) -> None:
        """Remove files that a killed process left partly written or partly removed."""
        sweep(self.folder)

    def clear(self) -> None:
        """Remove all checkpoints: training starts from the beginning."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _remove_unneeded(self, best_step: int) -> None:
        """Keep the newest two checkpoints and the best checkpoint that each of them names; remove the rest."""
        newest = [step for step in self.steps() if self._has_recorded_sizes(step)][:KEPT]
        # Should the newer one be damaged later, training resumes from the older one, which needs the best checkpoint of
        # its own time.
        kept = {*newest, best_step, *(read_manifest(self.path(step) / MANIFEST).best_step for step in newest)}
        for step in self.steps():
            if step not in kept:
                self._remove(step)

    def _has_recorded_sizes(self, step: int) -> bool:
        # Only sizes are compared: contents were verified after writing, and may be many gigabytes.
        try:
            manifest = read_manifest(self.path(step) / MANIFEST)
            ours = (manifest.identity, manifest.step) == (self.identity, step)
            sizes = {name: (self.path(step) / name).stat().st_size for name in manifest.files}
            return ours and all(sizes[name] == stamp.size for name, stamp in manifest.files.items())
        except (DataError, OSError):
            return False

    def _remove(self, step: int) -> None:
        """Remove a checkpoint; renamed first, so that a kill leaves no partial one under its name."""
        if self.path(step).exists():
            gone = self.folder / f"{TEMPORARY_PREFIX}gone-{step}-{os.getpid()}"
            self.path(step).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def read_manifest(path: Path) -> Manifest:
    """Read a checkpoint's manifest.

    Raises:
        DataError: it is missing, torn, or not a manifest.
    """
    try:
        return MANIFESTS.validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise DataError(Fault("not-readable", f"cannot be read: {error.strerror}", file=str(path))) from None
    except ValidationError as error:
        refused = fault_of(error)
        problem = f"{refused.problem}; the checkpoint is unfinished or damaged"
        raise DataError(refused.but(code="not-a-manifest", problem=problem, file=str(path))) from None
