"""Evaluations of several runs by one command, and several evaluations of one training in one matrix."""

import signal

from medqa_finetune.record.run_dir import RunDir, find_runs
from scripts.trials import checks
from scripts.trials.again import SECONDS, write_text
from scripts.trials.cells import IN_CELLS, check_nobody_left
from scripts.trials.checks import DIFFERENT, DISHONEST, LOST, TORN, expect
from scripts.trials.inject import Event, Strike, read_journal
from scripts.trials.reference import Reference
from scripts.trials.settings import Setting, configuration
from scripts.trials.stops import copy_runs
from scripts.trials.sweeps import snapshot
from scripts.trials.trial import Trial
from scripts.trials.warm import EVALUATE, Ended

RUNS = 3
PATTERN_WAYS = ("a cell", "the launcher", "the launcher, asked", "a cell, always")
MATRIX_WAYS = ("undisturbed", "a cell", "the launcher")
# Questions of the two evaluations of one training.
QUESTIONS = (2, 3)


def evaluate_pattern(trial: Trial) -> None:
    """F25: `evaluate run='outputs/demo/*'`; its launcher or a cell is killed, and it is given again."""
    way = PATTERN_WAYS[trial.number % len(PATTERN_WAYS)]
    kind = trial.chance.choice(["longer answers", "longer answers", "another metric", "a text"])
    at_once = trial.chance.choice([1, 2])
    trial.say(f"{way}; {kind}, {at_once} at a time")
    write_text(trial)
    names = copy_runs(trial, RUNS)
    settings = ["evaluate.max_new_tokens=8", "evaluate.batch_size=2"]
    changes = [word.replace("TEXT", str(trial.shared / "text.txt")) for word in SECONDS[kind]]
    keys = {word.partition("=")[0] for word in changes}
    asked = [*(word for word in settings if word.partition("=")[0] not in keys), *changes]
    references = [
        trial.reference_after(trial.reference(configuration(trial.seed, number)), EVALUATE,
                              [f"run=outputs/demo/{name}", *asked])
        for number, name in enumerate(names)
    ]  # fmt: skip
    command = ["run=outputs/demo/*", *asked, f"max_parallel={at_once}"]
    runs = [RunDir(trial.outputs / "demo" / name) for name in names]
    before = [checks.contents(run.path) for run in runs]
    victim = trial.chance.randrange(RUNS)
    ended = trial.ended(trial.launch(command, strike(trial, way, references[victim], runs[victim]), module=EVALUATE))
    check_ended(trial, way, ended)
    check_nobody_left(trial, 30)
    for reference, run, content in zip(references, runs, before, strict=True):
        check_run(trial, reference, run, content)
    ended = trial.ended(trial.launch(command, module=EVALUATE))
    expect(ended.code == 0, LOST, f"the same command again ended with {ended.code}: {ended.errors[-800:]}")
    check_all_done(trial, references, runs, before)
    answered = sum(event.kind == "generate" for events in starts(trial) for event in events)
    struck = sum(event.kind == "strike" for events in starts(trial) for event in events)
    wanted = sum(event.kind == "generate" for reference in references for event in reference.journal)
    # A kill loses at most one batch; one per cell if the launcher is killed.
    most = wanted + struck * (at_once if "launcher" in way else 1)
    expect(wanted <= answered <= most, LOST, f"{answered} batches were answered instead of {wanted}, {struck} kills")
    left = snapshot(trial.outputs)
    ended = trial.ended(trial.launch(command, module=EVALUATE))
    expect(ended.code == 0 and snapshot(trial.outputs) == left, LOST, f"done, and then: {ended.errors[-600:]}")


def strike(trial: Trial, way: str, reference: Reference, run: RunDir) -> Strike:
    """Return a strike at a random moment of a run's evaluation."""
    texts = [event.text for event in reference.journal if "/cache" not in event.path]
    last = max(number for number, text in enumerate(texts) if text.endswith("evaluation.json"))
    moment, cell = trial.chance.randint(1, last), f"run={run.path}"
    if "launcher" in way:
        return Strike("signal parent", moment, IN_CELLS, "SIGTERM" if "asked" in way else "SIGKILL", cell=cell)
    # A resumed start has fewer events than the first one.
    moment = max(1, moment // 4) if "always" in way else moment
    once = "" if "always" in way else str(trial.folder / "has-happened")
    return Strike("signal", moment, IN_CELLS, "SIGKILL", cell=cell, once=once)


def check_ended(trial: Trial, way: str, ended: Ended) -> None:
    struck = [events for events in starts(trial) if any(event.kind == "strike" for event in events)]
    if not struck:
        raise RuntimeError("nothing has happened")
    allowed = {"a cell": (0,), "the launcher": (-signal.SIGKILL,), "the launcher, asked": (143,)}.get(way, (0, 1))
    expect(ended.code in allowed, DISHONEST, f"{way}: exit code {ended.code}: {ended.errors[-800:]}")
    if ended.code == 1:
        expect("SIGKILL" in ended.errors, DISHONEST, f"the terminal does not name the cause: {ended.errors[-800:]}")


def starts(trial: Trial) -> list[list[Event]]:
    """Return the events of every start of a cell, in all launches of a trial."""
    found = (read_journal(path) for path in sorted(trial.journals.rglob("launch-*/*.journal")))
    return [events for events in found if events and events[0].kind == "start"]


def check_run(trial: Trial, reference: Reference, run: RunDir, before: dict[str, bytes]) -> None:
    """Check a run right after a fault: no earlier file has changed."""
    checks.check_whole(run.path)
    now = checks.contents(run.path)
    changed = [name for name, content in before.items() if now.get(name) != content and name != "log.txt"]
    expect(not changed, LOST, f"{run.path.name}: {changed} changed")
    known = checks.evaluations(reference.run)
    for name, folder in checks.evaluations(run).items():
        expect(name in known, DIFFERENT, f"an evaluation {name}, which the undisturbed run lacks")
        trial.check_evaluation(run, folder, reference, known[name])


def check_all_done(
    trial: Trial, references: list[Reference], runs: list[RunDir], before: list[dict[str, bytes]]
) -> None:
    """Check that every run equals its reference, that nothing was trained, and that no temporary files remain."""
    for reference, run, content in zip(references, runs, before, strict=True):
        check_run(trial, reference, run, content)
        found = checks.differences(reference.results, checks.results(run))
        expect(not found, DIFFERENT, f"{run.path.name}: {'; '.join(found[:6])}")
    trained = [event for events in starts(trial) for event in events if event.kind in ("step", "update")]
    expect(not trained, LOST, f"{len(trained)} steps were trained")
    left = checks.leftovers(trial.outputs)
    expect(not left, TORN, f"left over: {left[:5]}")


def evaluations_in_a_matrix(trial: Trial) -> None:
    """F23, in a matrix: two evaluations of one training, two cells at a time; trained once, whatever is killed."""
    way = MATRIX_WAYS[trial.number // 2 % len(MATRIX_WAYS)]
    setting = trial.setting()
    references = [trial.reference(with_questions(setting, number)) for number in QUESTIONS]
    trial.say(way)
    command = [*setting.arguments(trial.model), f"evaluate.max_samples={','.join(map(str, QUESTIONS))}",
               "hydra.launcher.max_parallel=2"]  # fmt: skip
    number = trial.chance.randrange(len(QUESTIONS))
    moment = trial.chance.randint(1, last_moment(references[number]))
    words = f"evaluate.max_samples={QUESTIONS[number]}"
    strikes = {
        "undisturbed": [],
        "a cell": [Strike("signal", moment, IN_CELLS, "SIGKILL", cell=words, once=str(trial.folder / "happened"))],
        "the launcher": [Strike("signal parent", moment, IN_CELLS, "SIGKILL", cell=words)],
    }[way]
    ended = trial.ended(trial.launch(command, *strikes))
    check_nobody_left(trial, 30)
    if way == "the launcher" and ended.code != 0:
        checks.check_whole(trial.outputs)
        ended = trial.ended(trial.launch(command))
    expect(ended.code == 0, LOST, f"{way}: exit code {ended.code}: {ended.errors[-800:]}")
    check_trained_once(trial, setting, references)
    before = snapshot(trial.outputs)
    ended = trial.ended(trial.launch(command))
    expect(ended.code == 0 and snapshot(trial.outputs) == before, LOST, f"done, and then: {ended.errors[-600:]}")


def with_questions(setting: Setting, number: int) -> Setting:
    """Return a setting whose evaluation has `number` questions."""
    return setting.but(more=(*setting.more, f"evaluate.max_samples={number}"))


def last_moment(reference: Reference) -> int:
    """Return the number of a cell's last write event."""
    texts = [event.text for event in reference.journal if "/cache" not in event.path]
    return max(number for number, text in enumerate(texts) if text.endswith("record.json"))


def check_trained_once(trial: Trial, setting: Setting, references: list[Reference]) -> None:
    """Check that there are one training and two evaluations, and that nothing was trained twice."""
    checks.check_whole(trial.outputs)
    runs = list(find_runs(trial.outputs))
    expect(len(runs) == 1, DIFFERENT, f"{len(runs)} runs instead of 1")
    run, first = runs[0], references[0]
    differing = checks.differences(checks.of_training(first.results), checks.of_training(checks.results(run)))
    expect(not differing, DIFFERENT, "; ".join(differing[:6]))
    expect(checks.read_record(run).status == "done", LOST, f"status {checks.read_record(run).status}")
    found = checks.evaluations(run)
    for reference in references:
        ((name, known),) = checks.evaluations(reference.run).items()
        expect(name in found, LOST, f"{name} is not there")
        evaluation = checks.read_evaluation(run, found[name])
        assert evaluation is not None
        expect(evaluation.status == "done", LOST, f"{name}: {evaluation.status}")
        # Predictions may be reused from the other evaluation, with other batches.
        pairs = [{row["id"]: row["prediction"] for row in each.read_predictions()} for each in (known, found[name])]
        expect(pairs[0] == pairs[1], DIFFERENT, f"{name}: other answers")
    left = checks.leftovers(trial.outputs)
    expect(not left, TORN, f"left over: {left[:5]}")
    train = checks.read_record(run).train
    steps = 0 if train is None else train.steps
    done = starts(trial)
    updates = sum(event.kind == "update" for events in done for event in events)
    struck = any(event.kind == "strike" for events in done for event in events)
    # A kill loses the steps since the newest checkpoint, and the current one.
    most = steps + (setting.checkpoint_steps + 1 if struck else 0)
    expect(steps <= updates <= most, LOST, f"{updates} steps were trained instead of {steps}")
