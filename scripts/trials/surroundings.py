"""Dependencies of a run other than files: finite losses, the tracker, the network, predictions that end."""

from typing import Any

import numpy
import safetensors.numpy

from medqa_finetune.record.run_dir import RunDir
from scripts.trials import checks
from scripts.trials.checks import DIFFERENT, DISHONEST, LOST, expect
from scripts.trials.inject import Strike
from scripts.trials.reference import TESTED, Reference
from scripts.trials.settings import Setting, configuration
from scripts.trials.stops import copy_runs
from scripts.trials.trial import Trial
from scripts.trials.warm import EVALUATE, TRAIN, Ended, command_body

LOSSES = ("nan", "inf", "masked", "-inf")
TRACKER_WAYS = ("a file", "forbidden", "point", "writer", "gone")
NETWORK_WAYS = ("train", "no such model", "train", "summarize", "train", "evaluate", "no such data")
# Time limits of a prediction batch and of a hanging token, and the duration of a slow token.
TIMEOUT, IMPATIENT, SLOW = "1.5", "0.2", "0.45"


def spoil_losses(trial: Trial) -> None:
    """F14: the loss is not finite, or no answer token has a loss."""
    setting = trial.setting()
    logged = trial.chance.choice([1, 2, 3])
    setting = setting.but(more=(*setting.more, f"train.logging_steps={logged}"))
    reference = trial.reference(setting)
    loss = LOSSES[trial.number % len(LOSSES)]
    event = "^batch" if loss == "masked" else trial.chance.choice(["^step", "^step", "^update"])
    count = trial.chance.randint(1, len(reference.moments(event[1:] + " ")))
    ended = trial.train(setting, Strike("mask" if loss == "masked" else "spoil", count, event, loss))
    checks.check_whole(trial.outputs)
    run = checks.the_run(trial.outputs)
    assert run is not None
    record = checks.read_record(run)
    expect(ended.code == 1, DISHONEST, f"exit code {ended.code} instead of 1: {ended.errors[-600:]}")
    expect(record.status == "failed", DISHONEST, f"status {record.status} instead of failed")
    expect(record.failure is not None and record.failure.final, DISHONEST, f"tried again: {record.failure}")
    expect("loss became" in ended.errors, DISHONEST, f"the message does not say it: {ended.errors[-600:]}")
    kinds = [each.kind for each in ended.journal]
    taken = kinds[: kinds.index("strike")].count("update")
    later = kinds.count("update") - taken
    expect(later <= logged, DISHONEST, f"{later} more steps were taken, train.logging_steps={logged}")
    checks.check_beginning(reference.run.metrics_path, run.metrics_path, taken)
    check_finite(run)
    trial.check_kept(ended, run)
    trial.go_on(setting, reference)


def check_finite(run: RunDir) -> None:
    """Check that all weights in checkpoints and all logged figures are finite."""
    for path in run.checkpoints_path.glob("step-*/*.safetensors"):
        bad = [name for name, part in safetensors.numpy.load_file(path).items() if not numpy.isfinite(part).all()]
        expect(not bad, DIFFERENT, f"{path}: {bad[:3]} hold what is no number")
    text = run.metrics_path.read_text(encoding="utf-8") if run.metrics_path.is_file() else ""
    expect("NaN" not in text and "Infinity" not in text, DIFFERENT, f"{run.metrics_path}: {text[-300:]}")


def break_tracker(trial: Trial) -> None:
    """F17: TensorBoard's folder is a file or unwritable, or its writer fails during the run."""
    way = TRACKER_WAYS[trial.number % len(TRACKER_WAYS)]
    setting = trial.setting(tracker="tensorboard")
    reference = trial.reference(setting)
    events = trial.outputs / "demo" / reference.run.path.name / "tensorboard"
    trial.say(way)
    strikes = {
        "a file": [],
        "forbidden": [Strike("forbid", 1, "^open .*/tensorboard/", str(events))],
        "point": [Strike("point", 0, "", str(trial.chance.randint(1, 20)))],
        "writer": [Strike("writer", 0, "", str(trial.chance.randint(1, 20)))],
        "gone": [Strike("delete", trial.moment(reference, after="/tensorboard"), "", str(events))],
    }[way]
    if way == "a file":
        events.parent.mkdir(parents=True)
        events.write_text("no folder")
    ended = trial.train(setting, *strikes)
    expect(ended.code == 0, LOST, f"the tracker's trouble ended the run with {ended.code}: {ended.errors[-900:]}")
    run = trial.check_same(reference)
    warned = run.log_path.read_text(encoding="utf-8").count("tracker tensorboard stopped")
    expect(warned == 1 or (way == "gone" and not warned), DISHONEST, f"warned {warned} times: {ended.errors[-900:]}")
    # TensorBoard's thread prints its own traceback.
    others = ended.errors.count("Traceback") - ended.errors.count("Exception in thread")
    expect(not others, DISHONEST, f"a traceback on the terminal: {ended.errors[-1500:]}")


def cut_off(trial: Trial) -> None:
    """F18: no network: everything on disk works, and the rest is refused with one line."""
    way = NETWORK_WAYS[trial.number % len(NETWORK_WAYS)]
    strikes = [Strike("unplug", 0), *trial.chance.choice([[], [Strike("online", 0)]])]
    setting = trial.setting()
    trial.say(way)
    if way == "train":
        reference = trial.reference(setting)
        ended = trial.train(setting, *strikes)
        expect(ended.code == 0, LOST, f"without a network it ended with {ended.code}: {ended.errors[-900:]}")
        trial.check_same(reference)
    elif way.startswith("no such"):
        words = setting.arguments(trial.model)
        if way == "no such model":
            kept = [word for word in words if not word.startswith("model")]
            words = [*kept, "model=qwen2.5-0.5b"]
        else:
            words = [*words, "corpus=huatuo26m_lite"]
        check_refused(trial, trial.ended(trial.child(command_body(TRAIN, words), strikes)))
    else:
        (name,) = copy_runs(trial, 1)
        run = RunDir(trial.outputs / "demo" / name)
        evaluate = command_body(EVALUATE, [f"run={run.path}"])
        ended = trial.summarize(*strikes) if way == "summarize" else trial.ended(trial.child(evaluate, strikes))
        expect(ended.code == 0, LOST, f"{way} without a network ended with {ended.code}: {ended.errors[-900:]}")
        trial.check_same(trial.reference(configuration(trial.seed, 0)))


def check_refused(trial: Trial, ended: Ended) -> None:
    """Check that a run that needs the network was refused, and that no run was begun."""
    expect(ended.code == 2, DISHONEST, f"exit code {ended.code} instead of 2: {ended.errors[-600:]}")
    expect("error: " in ended.errors and "Traceback" not in ended.errors, DISHONEST, ended.errors[-900:])
    expect(len(ended.errors.rpartition("error: ")[2]) < 600, DISHONEST, f"not a line: {ended.errors[-900:]}")
    expect(checks.the_run(trial.outputs) is None, DISHONEST, "refused, and yet a run was begun")


def hang_answers(trial: Trial) -> None:
    """F19: one prediction batch hangs, or all are slow from some batch on: cut off, marked, counted."""
    setting = trial.setting()
    setting = setting.but(more=(*setting.more, f"evaluate.timeout_seconds={TIMEOUT}"))
    reference = trial.reference(setting)
    batches = -(-TESTED // setting.answers)
    struck = trial.chance.randint(1, batches)
    hangs = trial.number % 2 == 0
    strikes = [Strike("impatient", 0, "", IMPATIENT)]
    strikes.append(Strike("hang", struck, "^generate", "60") if hangs else Strike("slow", struck, "^generate", SLOW))
    killed = struck < batches and trial.number % 3 == 0
    if killed:
        strikes.append(Strike("signal", struck + 1, "^generate", "SIGKILL"))
    ended = trial.train(setting, *strikes)
    if killed:
        ended = trial.train(setting)
        expect(ended.count("update") == 0, LOST, f"{ended.count('update')} steps were trained again")
    expect(ended.code == 0, LOST, f"exit code {ended.code}: {ended.errors[-600:]}")
    run = checks.the_run(trial.outputs)
    assert run is not None
    last = struck if hangs or killed else batches
    check_timed_out(reference, run, setting, range(struck - 1, last), empty=hangs)
    before = checks.contents(run.path)
    again = trial.train(setting)
    expect(again.code == 0 and checks.contents(run.path) == before, LOST, "done, and the next start changed something")


def check_timed_out(reference: Reference, run: RunDir, setting: Setting, late: range, *, empty: bool) -> None:
    """Check that predictions of late batches are marked and counted, and all others equal the reference."""
    folder, known = checks.the_evaluation(run), checks.the_evaluation(reference.run)
    assert folder is not None
    assert known is not None
    rows, expected = folder.read_predictions(), known.read_predictions()
    expect(len(rows) == TESTED, LOST, f"{len(rows)} answers to {TESTED} questions")
    for number, (row, usual) in enumerate(zip(rows, expected, strict=True)):
        if number // setting.answers in late and (
            empty or usual["prediction_tokens"] * float(SLOW) > 2 * float(TIMEOUT)
        ):
            check_cut(row, usual, empty=empty)
        else:
            expect(row == usual, DIFFERENT, f"answer {number}: {usual} -> {row}")
    record = checks.read_record(run)
    assert record.evaluation is not None
    share = sum(row["timed_out"] for row in rows) / TESTED
    expect(record.status == "done", DISHONEST, f"status {record.status} instead of done")
    expect(record.evaluation.timed_out_rate == share > 0, DISHONEST, f"{record.evaluation.timed_out_rate} of {share}")
    expect(record.evaluation.n == TESTED, DISHONEST, f"scored {record.evaluation.n} of {TESTED} answers")


def check_cut(row: dict[str, Any], usual: dict[str, Any], *, empty: bool) -> None:
    """Check that a prediction that was cut off is marked as such."""
    expect(row["timed_out"] is True and row["hit_limit"] is False, DISHONEST, f"not marked: {row}")
    whole = {**usual, **{key: row[key] for key in ("prediction", "timed_out", "hit_limit", "prediction_tokens")}}
    expect(row == whole, DIFFERENT, f"{usual} -> {row}")
    tokens = row["prediction_tokens"]
    expect(tokens == 0 if empty else 0 < tokens < usual["prediction_tokens"], DISHONEST, f"{tokens} tokens: {row}")
