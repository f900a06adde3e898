"""One trial: a fresh folder, a real command with a fault in it, the same command again, and what must hold."""

import contextlib
import hashlib
import json
import random
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from medqa_finetune.record.run_dir import RunDir, find_runs
from tests.faults import checks
from tests.faults.checks import DIFFERENT, DISHONEST, LOST, TORN, expect
from tests.faults.inject import Event, Strike, read_journal
from tests.faults.settings import Setting, draw
from tests.faults.warm import SUMMARIZE, TRAIN, Child, Ended, door, launching, struck

TESTED = 6  # test questions of a run


@dataclass(frozen=True)
class Reference:
    """An undisturbed run of a setting.

    Attributes:
        place: Folder it was started in.
        seconds: How long it took.
    """

    place: Path
    seconds: float

    @property
    def run(self) -> RunDir:
        (run,) = find_runs(self.place / "outputs")
        return run

    @property
    def journal(self) -> list[Event]:
        return read_journal(self.place / "1.journal")

    @property
    def results(self) -> dict[str, Any]:
        return checks.results(self.run)

    def moments(self, event: str = "", *, after: str = "", before: str = "") -> list[int]:
        """Return the numbers (from 1) of the events whose text contains `event`.

        Args:
            event: Part of `kind path`.
            after: Only those behind the first event that contains this.
            before: Only those before the last event that contains this.
        """
        texts = [each.text.replace(str(self.place), "") for each in self.journal]
        first = next((n for n, text in enumerate(texts) if after in text), len(texts)) if after else 0
        last = max((n for n, text in enumerate(texts) if before in text), default=-1) if before else len(texts)
        return [n + 1 for n in range(first, min(last + 1, len(texts))) if event in texts[n]]


@dataclass(frozen=True)
class Standing:
    """How far an interrupted run has come: status, steps of whole checkpoints (newest first), answers on disk."""

    status: str
    checkpoints: list[int]
    answered: int


@dataclass
class Trial:
    """A trial's folder, its chance, and what was done in it.

    Attributes:
        name: Fault and number.
        seed: Of the whole harness.
        number: From 0.
        shared: Folder with the model and the undisturbed runs, shared by all trials.
        folder: The trial's own.
        chance: Every choice of the trial comes from here.
        notes: What was done, so that a loss can be understood.
    """

    name: str
    seed: int
    number: int
    shared: Path
    folder: Path
    chance: random.Random
    notes: list[str] = field(default_factory=list)
    started: int = 0

    @property
    def model(self) -> Path:
        return self.shared / "model"

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs"

    @property
    def journals(self) -> Path:
        return self.folder / "journals"

    def say(self, note: str) -> None:
        """Remember what was done."""
        self.notes.append(note)

    def setting(self, **changes: object) -> Setting:
        """Return one of the configurations of this seed."""
        chosen = draw(self.chance, self.seed).but(**changes)
        self.say(f"{chosen.method} batch={chosen.batch}/{chosen.micro} epochs={chosen.epochs} seed={chosen.seed}")
        return chosen

    def child(self, body: Callable[[], object], strikes: Sequence[Strike] = (), cwd: Path | None = None) -> Child:
        """Start a process that counts and is struck."""
        self.started += 1
        self.journals.mkdir(exist_ok=True)
        journal = self.journals / f"{self.started}.journal"
        place = cwd or self.folder
        self.notes += [f"{self.started}: {strike}" for strike in strikes]
        return Child(struck(body, place, journal, list(strikes)), place, journal)

    def train(self, setting: Setting, *strikes: Strike, kill_after: float | None = None, cwd: Path | None = None) -> Ended:
        """Run the door `train` to its end, or kill it after some seconds."""
        child = self.child(door(TRAIN, setting.arguments(self.model)), strikes, cwd)
        if kill_after is not None and not child.wait(kill_after):
            self.say(f"{self.started}: killed after {kill_after:.2f} s")
            child.send(signal.SIGKILL)
        return self._ended(child)

    def summarize(self, *strikes: Strike) -> Ended:
        """Run the door `summarize` to its end."""
        return self._ended(self.child(door(SUMMARIZE, ["outputs=outputs"]), strikes))

    def _ended(self, child: Child) -> Ended:
        ended = child.end()
        self.say(f"{self.started}: ended with {ended.code} after {ended.seconds:.1f} s; {ended.errors.strip()[-300:]}")
        expect(ended.code != -signal.SIGABRT, DISHONEST, f"hangs: {ended.errors[-3000:]}")
        return ended

    def launch(self, arguments: Sequence[str], *strikes: Strike, cold: bool = False) -> Child:
        """Start the door `train` with `-m`; the cells are struck, not the launcher."""
        self.started += 1
        self.journals.mkdir(exist_ok=True)
        self.notes += [f"{self.started}: {strike}" for strike in strikes]
        body = door(TRAIN, ["-m", *arguments])
        inside = launching(body, self.folder, self.journals, list(strikes), cold)
        return Child(inside, self.folder, self.journals / f"launcher-{self.started}")

    def reference(self, setting: Setting) -> Reference:
        """Return the undisturbed run of a setting, made once for all trials."""
        words = setting.arguments(self.model)
        digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]
        place = self.shared / "undisturbed" / digest
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / ".made.lock"):
            if not (place / "seconds").is_file():
                journal = place / "1.journal"
                ended = Child(struck(door(TRAIN, words), place, journal, []), place, journal).end()
                if ended.code != 0:
                    shutil.rmtree(place / "outputs", ignore_errors=True)
                expect(ended.code == 0, DISHONEST, f"the undisturbed run ended with {ended.code}: {ended.errors[-800:]}")
                (place / "seconds").write_text(str(ended.seconds), encoding="utf-8")
        return Reference(place, float((place / "seconds").read_text(encoding="utf-8")))

    def moment(self, reference: Reference, event: str = "", *, after: str = "", before: str = "") -> int:
        """Return the number of a random event of the undisturbed run that `Reference.moments` selects."""
        return self.chance.choice(reference.moments(event, after=after, before=before))

    def standing(self, run: RunDir | None) -> Standing:
        """Return how far an interrupted run has come."""
        if run is None:
            return Standing("none", [], 0)
        answered = run.predictions_path.read_bytes().count(b"\n") if run.predictions_path.is_file() else 0
        return Standing(checks.read_record(run).status, checks.whole_checkpoints(run), answered)

    def check_stopped(self, reference: Reference, outputs: Path | None = None) -> RunDir | None:
        """Check what must hold right after a fault: whole files, and nothing there that an undisturbed run lacks."""
        checks.check_whole(outputs or self.outputs)
        run = checks.the_run(outputs or self.outputs)
        if run is None:
            return None
        status = checks.read_record(run).status
        expected, found = reference.results, checks.results(run)
        for name in ("predictions.jsonl", "metrics.jsonl"):
            check_beginning(reference.run.path / name, run.path / name)
        adapter = [name for name in expected if name.startswith("adapter/")]
        if status in ("trained", "evaluated", "done"):
            missing = [name for name in adapter if found.get(name) != expected[name]]
            expect(not missing, LOST, f"status {status}, and {missing} is not what training ends with")
        if status in ("evaluated", "done"):
            same = found.get("predictions.jsonl") == expected["predictions.jsonl"]
            expect(same, LOST, f"status {status}, and the answers are not all there")
        return run

    def go_on(self, setting: Setting, reference: Reference, cwd: Path | None = None) -> Ended:
        """Run the command once more, undisturbed, and check that it goes on and ends as the undisturbed run did."""
        outputs = (cwd or self.folder) / "outputs"
        before = self.standing(checks.the_run(outputs))
        ended = self.train(setting, cwd=cwd)
        expect(ended.code == 0, LOST, f"the same command again ended with {ended.code}: {ended.errors[-600:]}")
        run = self.check_same(reference, outputs)
        self.check_resumed(setting, before, ended, run)
        return ended

    def check_same(self, reference: Reference, outputs: Path | None = None) -> RunDir:
        """Check that a finished run is what the undisturbed one is, and that nothing is left lying about."""
        run = checks.the_run(outputs or self.outputs)
        expect(run is not None, LOST, "no run folder")
        assert run is not None
        checks.check_whole(outputs or self.outputs)
        found = checks.differences(reference.results, checks.results(run))
        expect(not found, DIFFERENT, "; ".join(found[:6]))
        expect(not run.is_locked(), DISHONEST, "the run is still locked")
        left = checks.leftovers(outputs or self.outputs)
        expect(not left, TORN, f"left over: {left[:5]}")
        return run

    def check_resumed(self, setting: Setting, before: Standing, ended: Ended, run: RunDir) -> None:
        """Check that nothing was done again that had been kept."""
        train = checks.read_record(run).train
        updates, batches = ended.count("update"), ended.count("generate")
        at = f"(status {before.status}, checkpoints {before.checkpoints}, {before.answered} answers)"
        if before.status in ("trained", "evaluated", "done"):
            expect(updates == 0, LOST, f"{updates} steps were trained again {at}")
            kept = before.answered // setting.answers if before.answered < TESTED else -(-TESTED // setting.answers)
            wanted = 0 if before.status == "done" else -(-TESTED // setting.answers) - kept
            expect(batches == wanted, LOST, f"{batches} batches were answered instead of {wanted} {at}")
        elif train is not None:
            newest = before.checkpoints[0] if before.checkpoints else 0
            wanted = train.steps - newest
            expect(updates == wanted, LOST, f"{updates} steps were trained instead of {wanted} {at}")
            expect(train.resumed_from[-1:] == before.checkpoints[:1], DISHONEST, f"resumed_from {train.resumed_from} {at}")


def check_beginning(whole: Path, part: Path) -> None:
    """Check that the lines of a growing file are the first ones of the undisturbed file, measured figures left out."""
    if not part.is_file():
        return
    lines = [checks._without_measured(json.loads(line)) for line in part.read_bytes().split(b"\n")[:-1]]
    expected = [checks._without_measured(json.loads(line)) for line in whole.read_bytes().split(b"\n")[:-1]]
    expect(len(lines) <= len(expected), DIFFERENT, f"{part.name}: {len(lines)} lines, {len(expected)} undisturbed")
    found = checks.differences(expected[: len(lines)], lines, part.name)
    expect(not found, DIFFERENT, "; ".join(found[:4]))


@contextlib.contextmanager
def process_of(child: Child) -> Iterator[Child]:
    """End a process that the block leaves running."""
    try:
        yield child
    finally:
        child.send(signal.SIGKILL)
        child.wait(30)
