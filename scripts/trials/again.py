"""Second evaluations of a finished run: killed, two at once, requested while the run trains."""

import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.run_dir import RunDir
from scripts.trials import checks
from scripts.trials.checks import DIFFERENT, DISHONEST, LOST, TORN, expect
from scripts.trials.inject import Strike, read_journal
from scripts.trials.reference import Reference
from scripts.trials.settings import Setting
from scripts.trials.stops import kill
from scripts.trials.trial import Trial, process_of
from scripts.trials.warm import EVALUATE, TRAIN, Child, Ended, command_body

# Questions of the first evaluation, out of six.
FIRST = 3
TEXT = "感冒了要多休息，多喝温水，饮食要清淡。发烧超过三天，应该去医院看医生。\n"
# Overrides of a second evaluation.
SECONDS = {
    "more questions": ("evaluate.max_samples=5",),
    "longer answers": ("evaluate.max_new_tokens=12",),
    "another metric": ("evaluate.metrics=[bleu]",),
    "a text": ("evaluate.text=text", "evaluate.text_path=TEXT"),
    "all questions": ("evaluate.max_samples=null",),
    "the default": ("evaluate.max_samples=null", "evaluate.max_new_tokens=128"),
}
DEFAULT = "the default"


@dataclass(frozen=True)
class Second:
    """A second evaluation of a run: its command line and its undisturbed reference.

    Attributes:
        trial: The trial it belongs to.
        setting: Setting of the run, with its first evaluation.
        kind: A key of `SECONDS`.
        module: Command: `train`, or `evaluate`.
        first: The undisturbed run before it.
        reference: The undisturbed run after it.
    """

    trial: Trial
    setting: Setting
    kind: str
    module: str
    first: Reference
    reference: Reference

    @property
    def words(self) -> list[str]:
        return words(self.trial, self.setting, self.kind, self.module, self.first.run)

    @property
    def name(self) -> str:
        (name,) = checks.evaluations(self.reference.run).keys() - checks.evaluations(self.first.run).keys()
        return name

    @property
    def batches(self) -> int:
        return sum(event.kind == "generate" for event in self.reference.journal)

    def start(self, *strikes: Strike) -> Child:
        return self.trial.child(command_body(self.module, self.words), strikes)

    def check_left_alone(self, run: RunDir, before: dict[str, bytes]) -> None:
        """Check that no earlier file has changed, except those that follow the default evaluation."""
        place = checks.evaluations(self.reference.run)[self.name].path.relative_to(self.reference.run.path).as_posix()
        after = checks.contents(run.path)
        follows = ("eval_results.json", "record.json") if self.kind == DEFAULT else ()
        changed = [name for name, content in before.items() if after.get(name) != content]
        changed = [name for name in changed if name not in ("log.txt", *follows)]
        expect(not changed, LOST, f"{changed} changed")
        new = [name for name in after.keys() - before.keys() if not name.startswith((f"{place}/", ".writing-"))]
        expect(not new, DIFFERENT, f"{new} are new")
        found = checks.differences(checks.of_training(self.first.results), checks.of_training(checks.results(run)))
        expect(not found, DIFFERENT, f"of the training: {'; '.join(found[:4])}")

    def check_stopped(self, before: dict[str, bytes]) -> RunDir:
        """Check the invariants right after a fault, and return the run."""
        run = self.trial.check_stopped(self.reference)
        assert run is not None
        self.check_left_alone(run, before)
        return run

    def folder(self, run: RunDir) -> EvaluationDir | None:
        """Return its folder; None if it has not begun."""
        return checks.evaluations(run).get(self.name)

    def kept(self, run: RunDir) -> int:
        """Return the number of its batches that are not repeated."""
        folder = self.folder(run)
        evaluation = None if folder is None else checks.read_evaluation(run, folder)
        if folder is None or evaluation is None:
            return 0
        if evaluation.status == "done":
            return self.batches
        lines, logged = checks.answered(folder)
        taken = 0 if evaluation.reused is None else evaluation.reused.answers
        known = checks.evaluations(self.reference.run)[self.name].read_predictions()
        own, all_own = lines - taken, len(known) - taken
        return min(logged, self.batches if own >= all_own else max(0, own) // self.setting.answers)

    def finish(self, before: dict[str, bytes]) -> RunDir:
        """Repeat the command without faults; check that it ends like the reference and keeps earlier files."""
        run = checks.the_run(self.trial.outputs)
        assert run is not None
        kept = self.kept(run)
        ended = self.trial.ended(self.start())
        expect(ended.code == 0, LOST, f"the same command again ended with {ended.code}: {ended.errors[-600:]}")
        self.trial.check_same(self.reference)
        self.check_left_alone(run, before)
        check_trained_nothing(ended)
        answered, wanted = ended.count("generate"), self.batches - kept
        expect(answered == wanted, LOST, f"{answered} batches were answered instead of {wanted}")
        after = checks.contents(run.path)
        again = self.trial.ended(self.start())
        expect(again.code == 0 and not again.count("generate"), LOST, f"done, and then {again.errors[-300:]}")
        # If only scores are requested, `evaluate` prints them and rewrites unchanged files.
        changed = [name for name, content in checks.contents(run.path).items() if after.get(name) != content]
        expect(changed in ([], ["log.txt"]), LOST, f"done, and the next start changed {changed}")
        return run


def words(trial: Trial, setting: Setting, kind: str, module: str, run: RunDir) -> list[str]:
    text = trial.shared / "text.txt"
    changes = [word.replace("TEXT", str(text)) for word in SECONDS[kind]]
    keys = {word.partition("=")[0] for word in changes}
    typed = [word for word in setting.arguments(trial.model) if word.partition("=")[0] not in keys]
    if module == TRAIN:
        return [*typed, *changes]
    # Settings left out would be those of the run's default evaluation.
    settings = [word for word in typed if word.startswith("evaluate.")]
    return [f"run=outputs/demo/{run.path.name}", *settings, *changes]


def write_text(trial: Trial) -> None:
    path = trial.shared / "text.txt"
    if not path.is_file():
        part = path.with_name(f"text-{trial.name}.txt")
        part.write_text(TEXT * 20, encoding="utf-8")
        part.replace(path)


def first_setting(trial: Trial) -> Setting:
    """Return a setting whose first evaluation leaves some questions for a second one."""
    setting = trial.setting()
    return setting.but(more=(*setting.more, f"evaluate.max_samples={FIRST}"))


def second(trial: Trial, setting: Setting, kind: str) -> Second:
    write_text(trial)
    first, module = trial.reference(setting), trial.chance.choice([TRAIN, EVALUATE])
    trial.say(f"{kind} by {module}")
    typed = words(trial, setting, kind, module, first.run)
    return Second(trial, setting, kind, module, first, trial.reference_after(first, module, typed))


def copy_first(trial: Trial, first: Reference) -> dict[str, bytes]:
    """Copy the finished run into the trial's outputs, and return its files."""
    shutil.copytree(first.place / "outputs", trial.outputs, ignore=shutil.ignore_patterns("*.lock", "*.lease"))
    return checks.contents(trial.outputs / "demo" / first.run.path.name)


def check_trained_nothing(ended: Ended) -> None:
    trained = ended.count("step") + ended.count("update")
    expect(not trained, LOST, f"{trained} steps were trained for another evaluation")


def kill_second(trial: Trial) -> None:
    """F21: kill -9 or SIGTERM at a random moment of a second evaluation, up to three times."""
    kinds = list(SECONDS)
    asked = second(trial, first_setting(trial), kinds[trial.number % len(kinds)])
    before = copy_first(trial, asked.first)
    for _ in range(trial.chance.choice([1, 1, 2, 3])):
        stop_once(trial, asked)
        asked.check_stopped(before)
    asked.finish(before)


def stop_once(trial: Trial, asked: Second) -> None:
    """Start a second evaluation, and kill it or stop it by a signal at a random moment."""
    chance = trial.chance
    moment = chance.randint(1, len(asked.reference.journal))
    way = chance.random()
    if way < 0.2:
        child = asked.start()
        if not child.wait(chance.uniform(0.1, 1.0) * asked.reference.seconds):
            child.send(signal.SIGKILL)
        ended = trial.ended(child)
    elif way < 0.5:
        ended = trial.ended(asked.start(Strike("signal", moment, "", "SIGTERM")))
        check_asked(trial, asked, ended)
    else:
        ended = trial.ended(asked.start(kill(trial, moment)))
    check_trained_nothing(ended)


def check_asked(trial: Trial, asked: Second, ended: Ended) -> None:
    """Check the end of a second evaluation after a stop signal; before it begins, the signal has its default effect."""
    expect(ended.code in (0, 143, -signal.SIGTERM), DISHONEST, f"exit code {ended.code}: {ended.errors[-600:]}")
    run = checks.the_run(trial.outputs)
    assert run is not None
    folder = asked.folder(run)
    evaluation = None if folder is None else checks.read_evaluation(run, folder)
    status = "none" if evaluation is None else evaluation.status
    if ended.code == 0:
        expect(status == "done", DISHONEST, f"exit code 0, and {status}")
    elif ended.code == 143:
        # It may be in any state from an earlier start.
        begun = evaluation is not None and evaluation.process is not None and evaluation.process.pid == ended.pid
        expect(not begun or status == "interrupted", DISHONEST, f"asked to stop, and {status}")


def evaluate_at_once(trial: Trial) -> None:
    """F22: two evaluations of one run at once, of different settings or of the same."""
    setting = first_setting(trial)
    first_kind, other_kind = trial.chance.sample([kind for kind in SECONDS if kind != DEFAULT], 2)
    one = second(trial, setting, first_kind)
    if trial.number % 3 == 2:
        at_once_alike(trial, one)
        return
    other = second(trial, setting, other_kind)
    before = copy_first(trial, one.first)
    first, latter = start_both(trial, one, other)
    for ended in (first, latter):
        expect(ended.code == 0, DISHONEST, f"one of two evaluations ended with {ended.code}: {ended.errors[-600:]}")
        check_trained_nothing(ended)
    check_both(trial, one, other, before)


def start_both(trial: Trial, one: Second, other: Second) -> tuple[Ended, Ended]:
    """Start two evaluations, the second shortly after the first, and wait for both."""
    children = [one.start()]
    time.sleep(trial.chance.choice([0.0, trial.chance.uniform(0, 1.2 * one.reference.seconds)]))
    children.append(other.start())
    first, latter = (trial.ended(child) for child in children)
    return first, latter


def check_both(trial: Trial, one: Second, other: Second, before: dict[str, bytes]) -> None:
    """Check that a run has three evaluations, each equal to its reference."""
    checks.check_whole(trial.outputs)
    run = checks.the_run(trial.outputs)
    assert run is not None
    found = checks.results(run)
    # Either may reuse predictions of the other, which are identical to its own.
    shared = {one.kind, other.kind} == {"more questions", "all questions"}
    for asked in (one, other):
        folder = asked.folder(run)
        expect(folder is not None, LOST, f"{asked.kind} is not there")
        assert folder is not None
        expected = checks.of_evaluation(asked.reference.results, folder.path.name)
        mine = checks.of_evaluation(found, folder.path.name)
        if shared:
            check_alike(asked, folder)
        else:
            differing = checks.differences(expected, mine)
            expect(not differing, DIFFERENT, f"{asked.kind}: {'; '.join(differing[:4])}")
    now = checks.contents(run.path)
    changed = [name for name, content in before.items() if now.get(name) != content and name != "log.txt"]
    expect(not changed, LOST, f"{changed} changed")
    expect(not checks.leftovers(trial.outputs), TORN, f"left over: {checks.leftovers(trial.outputs)}")


def check_alike(asked: Second, folder: EvaluationDir) -> None:
    """Check that predictions equal the reference's, whichever process and batch generated them."""
    known = checks.evaluations(asked.reference.run)[asked.name]
    pairs = [{row["id"]: row["prediction"] for row in each.read_predictions()} for each in (known, folder)]
    expect(pairs[0] == pairs[1], DIFFERENT, f"{asked.kind}: other answers")
    status = getattr(folder.read(), "status", "none")
    expect(status == "done", LOST, f"{asked.kind}: {status}")


def at_once_alike(trial: Trial, asked: Second) -> None:
    """The same evaluation twice at once: one does the work; the other does nothing, or names the process that does."""
    before = copy_first(trial, asked.first)
    pair = start_both(trial, asked, asked)
    codes = [ended.code for ended in pair]
    expect(0 in codes and set(codes) <= {0, 1}, DISHONEST, f"exit codes {codes}: {pair[1].errors[-500:]}")
    for ended, other in zip(pair, reversed(pair), strict=True):
        check_trained_nothing(ended)
        if ended.code == 1:
            # Between lock and record, the owner is unknown.
            named = any(name in ended.errors for name in (f"process {other.pid} on", "another process"))
            expect(named, DISHONEST, f"names no owner: {ended.errors[-500:]}")
            expect(not ended.count("generate"), LOST, "the one that was refused has answered")
    answered = sum(ended.count("generate") for ended in pair)
    expect(answered == asked.batches, LOST, f"{answered} batches were answered by the two instead of {asked.batches}")
    asked.trial.check_same(asked.reference)
    asked.finish(before)


def ask_while_training(trial: Trial) -> None:
    """F23: an evaluation is requested while the run trains, or generates its first evaluation's predictions."""
    setting = first_setting(trial)
    kind = trial.chance.choice([kind for kind in SECONDS if kind not in (DEFAULT, "another metric")])
    asked = second(trial, setting, kind)
    first = asked.first
    event = trial.chance.choice(["update", "step", "generate"])
    count = trial.chance.randint(1, len(first.moments(f"{event} ")))
    go = trial.folder / "go"
    child = trial.child(
        command_body(TRAIN, setting.arguments(trial.model)), [Strike("hold", count, f"^{event}", str(go))]
    )
    journal = trial.journals / f"{trial.started}.journal"
    wait_for(lambda: any(each.kind == "strike" for each in read_journal(journal)))
    run = checks.the_run(trial.outputs)
    assert run is not None
    before = checks.contents(run.path)
    with process_of(child):
        ended = trial.ended(asked.start())
        if event == "generate":
            expect(ended.code == 0, DISHONEST, f"the weights are there, and it ended with {ended.code}: {ended.errors}")
        else:
            check_refused(ended, child.pid)
            expect(checks.contents(run.path) == before, LOST, "refused, and the run's folder has changed")
        check_trained_nothing(ended)
        go.touch()
        whole = trial.ended(child)
    expect(whole.code == 0, LOST, f"the run that trained ended with {whole.code}: {whole.errors[-600:]}")
    if event != "generate":
        trial.check_same(first)
        asked.finish(checks.contents(run.path))
        return
    check_first(trial, first, run)
    folder = asked.folder(run)
    expect(folder is not None, LOST, "the second evaluation is not there")
    assert folder is not None
    check_alike(asked, folder)


def check_first(trial: Trial, first: Reference, run: RunDir) -> None:
    """Check that a run and its first evaluation are unaffected by the second one."""
    checks.check_whole(trial.outputs)
    expected, found = first.results, checks.results(run)
    (name,) = (folder.path.name for folder in checks.evaluations(first.run).values())
    pairs: Sequence[Callable[[dict[str, Any]], dict[str, Any]]] = (
        checks.of_training, lambda results: checks.of_evaluation(results, name),
    )  # fmt: skip
    for part in pairs:
        differing = checks.differences(part(expected), part(found))
        expect(not differing, DIFFERENT, "; ".join(differing[:4]))


def check_refused(ended: Ended, owner: int) -> None:
    """Check that an evaluation was refused with a line naming the working process, and that nothing was begun."""
    expect(ended.code == 1, DISHONEST, f"exit code {ended.code} instead of 1: {ended.errors[-600:]}")
    lines = [line for line in ended.errors.splitlines() if line.startswith("error: ")]
    expect(len(lines) == 1 and f"process {owner} on" in lines[0], DISHONEST, f"names no owner: {ended.errors[-600:]}")
    expect("Traceback" not in ended.errors, DISHONEST, f"a traceback: {ended.errors[-900:]}")
    expect(not ended.count("generate"), LOST, "refused, and yet it has answered")


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until a condition holds; raise an error of the harness after a timeout."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError("it never came to that")
        time.sleep(0.02)
