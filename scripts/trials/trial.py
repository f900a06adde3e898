"""One trial: a fresh folder, a real command with a fault, the same command again, and the checks."""

import contextlib
import hashlib
import json
import random
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RunDir
from scripts.trials import checks
from scripts.trials.checks import DIFFERENT, DISHONEST, LOST, TORN, expect
from scripts.trials.inject import Strike
from scripts.trials.reference import Reference, Standing
from scripts.trials.settings import Setting, draw
from scripts.trials.warm import SUMMARIZE, TRAIN, Child, Ended, command_body, launching, struck


@dataclass
class Trial:
    """A trial's folder, random generator and log.

    Attributes:
        name: Fault and number.
        seed: Seed of the whole harness.
        number: Number of the trial, from 0.
        shared: Folder with the model and the undisturbed runs, shared by all trials.
        folder: The trial's own folder.
        chance: Random generator of every choice in the trial.
        notes: Log of the trial, to explain a failure.
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
        self.notes.append(note)

    def setting(self, **changes: object) -> Setting:
        """Return a random setting of this seed."""
        chosen = draw(self.chance, self.seed).but(**changes)
        self.say(f"{chosen.method} batch={chosen.batch}/{chosen.micro} epochs={chosen.epochs} seed={chosen.seed}")
        return chosen

    def child(self, body: Callable[[], object], strikes: Sequence[Strike] = (), cwd: Path | None = None) -> Child:
        """Start a process that counts events and is struck."""
        self.started += 1
        self.journals.mkdir(exist_ok=True)
        journal = self.journals / f"{self.started}.journal"
        place = cwd or self.folder
        self.notes += [f"{self.started}: {strike}" for strike in strikes]
        return Child(struck(body, place, journal, list(strikes)), place, journal)

    def train(
        self,
        setting: Setting,
        *strikes: Strike,
        kill_after: float | None = None,
        cwd: Path | None = None,
        model: Path | None = None,
    ) -> Ended:
        """Run the command `train` to its end, or kill it after some seconds.

        Args:
            setting: The experiment.
            strikes: Faults in it.
            kill_after: Seconds; None for never.
            cwd: Where it is started; the trial's folder if None.
            model: The model's folder as it is typed; the shared one if None.
        """
        child = self.child(command_body(TRAIN, setting.arguments(model or self.model)), strikes, cwd)
        if kill_after is not None and not child.wait(kill_after):
            self.say(f"{self.started}: killed after {kill_after:.2f} s")
            child.send(signal.SIGKILL)
        return self.ended(child)

    def summarize(self, *strikes: Strike) -> Ended:
        return self.ended(self.child(command_body(SUMMARIZE, ["outputs=outputs"]), strikes))

    def ended(self, child: Child) -> Ended:
        """Wait for the end of a process, and log how it ended."""
        ended = child.end()
        self.say(f"{self.started}: ended with {ended.code} after {ended.seconds:.1f} s; {ended.errors.strip()[-300:]}")
        expect(ended.code != -signal.SIGABRT, DISHONEST, f"hangs: {ended.errors[-3000:]}")
        return ended

    def launch(self, arguments: Sequence[str], *strikes: Strike, cold: bool = False, module: str = TRAIN) -> Child:
        """Start `train -m`, or `evaluate` for several runs; the cells are struck, not the launcher."""
        self.started += 1
        self.cells.mkdir(parents=True)
        self.notes += [f"{self.started}: {strike}" for strike in strikes]
        body = command_body(module, ["-m", *arguments] if module == TRAIN else arguments)
        inside = launching(body, self.folder, self.cells, list(strikes), cold)
        return Child(inside, self.folder, self.journals / f"launcher-{self.started}")

    @property
    def cells(self) -> Path:
        """Folder with the journals of the cells of the newest launch."""
        return self.journals / f"launch-{self.started}"

    def reference(self, setting: Setting) -> Reference:
        """Return the undisturbed run of a setting, shared by all trials."""
        words = setting.arguments(self.model)
        return self._undisturbed(TRAIN, words, words, lambda place: None)

    def reference_after(self, first: Reference, module: str, words: Sequence[str]) -> Reference:
        """Return the undisturbed result of a command on an undisturbed run, shared by all trials."""

        def copy(place: Path) -> None:
            shutil.copytree(
                first.place / "outputs", place / "outputs", ignore=shutil.ignore_patterns("*.lock", "*.lease")
            )

        return self._undisturbed(module, words, [first.place.name, module, *words], copy)

    def reference_changed(self, first: Reference, label: str, change: Callable[[RunDir], object]) -> Reference:
        """Return an undisturbed run with a changed folder, shared by all trials under a label."""
        place = first.place.with_name(f"{first.place.name}-{label}")
        place.mkdir(exist_ok=True)
        with FileLock(place / ".made.lock"):
            if not (place / "seconds").is_file():
                shutil.rmtree(place / "outputs", ignore_errors=True)
                shutil.copytree(
                    first.place / "outputs", place / "outputs", ignore=shutil.ignore_patterns("*.lock", "*.lease")
                )
                change(Reference(place, first.seconds).run)
                (place / "seconds").write_text(str(first.seconds), encoding="utf-8")
        return Reference(place, first.seconds)

    def _undisturbed(
        self, module: str, words: Sequence[str], known_by: Sequence[str], prepare: Callable[[Path], None]
    ) -> Reference:
        """Return the undisturbed result of a command.

        Args:
            module: The command.
            words: Its arguments.
            known_by: What the result depends on, as cache key.
            prepare: Writes the initial content of a folder.
        """
        place = self.shared / "undisturbed" / hashlib.sha256(json.dumps(known_by).encode()).hexdigest()[:16]
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / ".made.lock"):
            if not (place / "seconds").is_file():
                shutil.rmtree(place / "outputs", ignore_errors=True)
                prepare(place)
                journal = place / "1.journal"
                journal.unlink(missing_ok=True)
                ended = Child(struck(command_body(module, words), place, journal, []), place, journal).end()
                expect(ended.code == 0, DISHONEST, f"undisturbed, it ended with {ended.code}: {ended.errors[-800:]}")
                (place / "seconds").write_text(str(ended.seconds), encoding="utf-8")
        return Reference(place, float((place / "seconds").read_text(encoding="utf-8")))

    def moment(self, reference: Reference, event: str = "", *, after: str = "", before: str = "") -> int:
        """Return the number of a random event of the undisturbed run that `Reference.moments` selects."""
        return self.chance.choice(reference.moments(event, after=after, before=before))

    def standing(self, run: RunDir | None) -> Standing:
        """Return the progress of an interrupted run with one evaluation."""
        if run is None:
            return Standing("none", [], 0)
        record, folder = checks.read_record(run), checks.the_evaluation(run)
        seen = record.seen_by(None if folder is None else checks.read_evaluation(run, folder))
        return Standing(
            seen.status, checks.whole_checkpoints(run), *checks.answered(folder), trained=bool(record.files)
        )

    def check_stopped(self, reference: Reference, outputs: Path | None = None) -> RunDir | None:
        """Check the invariants right after a fault: complete files, and none that an undisturbed run lacks."""
        checks.check_whole(outputs or self.outputs)
        run = checks.the_run(outputs or self.outputs)
        if run is None:
            return None
        record = checks.read_record(run)
        expected, found = reference.results, checks.results(run)
        checks.check_beginning(reference.run.metrics_path, run.metrics_path)
        if record.is_trained:
            adapter = [name for name in expected if name.startswith("adapter/")]
            missing = [name for name in adapter if found.get(name) != expected[name]]
            expect(not missing, LOST, f"status {record.status}, and {missing} is not what training ends with")
        if record.status == "done":
            # Written before the record: belongs to the previous or the current default evaluation.
            known_ones = [content for name, content in expected.items() if name.endswith("eval_results.json")]
            expect(found.get("eval_results.json") in known_ones, LOST, "status done, and the results are not all there")
        known = checks.evaluations(reference.run)
        for name, folder in checks.evaluations(run).items():
            expect(name in known, DIFFERENT, f"an evaluation {name}, which the undisturbed run lacks")
            self.check_evaluation(run, folder, reference, known[name])
        return run

    def check_evaluation(self, run: RunDir, folder: EvaluationDir, reference: Reference, known: EvaluationDir) -> None:
        """Check an evaluation right after a fault against the undisturbed one."""
        checks.check_beginning(known.predictions_path, folder.predictions_path)
        evaluation = checks.read_evaluation(run, folder)
        assert evaluation is not None
        if evaluation.status in ("evaluated", "done"):
            same = folder.read_predictions() == known.read_predictions()
            expect(same, LOST, f"{evaluation.name}: {evaluation.status}, and the answers are not all there")
        if evaluation.status == "done" and not folder.in_run and not known.in_run:
            name = folder.path.name
            expected = checks.of_evaluation(reference.results, name)
            found = checks.differences(expected, checks.of_evaluation(checks.results(run), name))
            expect(not found, DIFFERENT, f"{evaluation.name}: done, and {'; '.join(found[:4])}")

    def check_kept(self, ended: Ended, run: RunDir | None) -> None:
        """Check that the two newest checkpoints of a process still exist; the last may be incomplete."""
        if run is not None:
            made = sum("/checkpoints/step-" in event.path and event.kind == "rename" for event in ended.journal) - 1
            kept = len(checks.whole_checkpoints(run))
            expect(kept >= min(2, made), LOST, f"{kept} checkpoints are whole after {made} were made")

    def go_on(
        self,
        setting: Setting,
        reference: Reference,
        *strikes: Strike,
        cwd: Path | None = None,
        model: Path | None = None,
    ) -> Ended:
        """Run the command again, and check that it resumes and equals the reference.

        Args:
            setting: The experiment.
            reference: The undisturbed run.
            strikes: Changes that must make no difference.
            cwd: Where it is started; the trial's folder if None.
            model: The model's folder as it is typed; the shared one if None.
        """
        outputs = (cwd or self.folder) / "outputs"
        before = self.standing(checks.the_run(outputs))
        ended = self.train(setting, *strikes, cwd=cwd, model=model)
        expect(ended.code == 0, LOST, f"the same command again ended with {ended.code}: {ended.errors[-600:]}")
        run = self.check_same(reference, outputs)
        self.check_resumed(setting, before, ended, run)
        return ended

    def check_same(self, reference: Reference, outputs: Path | None = None) -> RunDir:
        """Check that a finished run equals its reference, and that no temporary files remain."""
        run = checks.the_run(outputs or self.outputs)
        expect(run is not None, LOST, "no run folder")
        assert run is not None
        checks.check_whole(outputs or self.outputs)
        found = checks.differences(reference.results, checks.results(run))
        expect(not found, DIFFERENT, "; ".join(found[:6]))
        expect(not run.is_locked(), DISHONEST, "the run is still locked")
        held = [name for name, folder in checks.evaluations(run).items() if folder.is_locked()]
        expect(not held, DISHONEST, f"{held} are still locked")
        left = checks.leftovers(outputs or self.outputs)
        expect(not left, TORN, f"left over: {left[:5]}")
        return run

    def check_resumed(self, setting: Setting, before: Standing, ended: Ended, run: RunDir) -> None:
        """Check that nothing already kept was repeated."""
        train = checks.read_record(run).train
        updates, batches = ended.count("update"), ended.count("generate")
        at = f"({before})"
        if before.trained:
            expect(updates == 0, LOST, f"{updates} steps were trained again {at}")
            wanted = (
                0 if before.status == "done" else -(-before.tested // setting.answers) - before.batches(setting.answers)
            )
            expect(batches == wanted, LOST, f"{batches} batches were answered instead of {wanted} {at}")
        elif train is not None:
            newest = before.checkpoints[0] if before.checkpoints else 0
            wanted = train.steps - newest
            expect(updates == wanted, LOST, f"{updates} steps were trained instead of {wanted} {at}")
            said = train.resumed_from
            expect(said[-1:] == before.checkpoints[:1], DISHONEST, f"resumed_from {said} {at}")


@contextlib.contextmanager
def process_of(child: Child) -> Iterator[Child]:
    """End a child process that the block leaves running."""
    try:
        yield child
    finally:
        child.send(signal.SIGKILL)
        child.wait(30)
