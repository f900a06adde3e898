"""Matrices with faults: crashed or killed cells, stopped or killed launchers, two launchers at once."""

import csv
import hashlib
import re
import shutil
import signal
import time
from pathlib import Path

from medqa_finetune.record.schema import Record
from scripts.trials import checks
from scripts.trials.cells import IN_CELLS, Matrix, check_nobody_left, draw_matrix
from scripts.trials.checks import DIFFERENT, DISHONEST, LOST, expect
from scripts.trials.inject import Event, Strike
from scripts.trials.settings import Setting
from scripts.trials.stops import SIGNALS
from scripts.trials.trial import Trial
from scripts.trials.warm import SUMMARIZE, TRAIN, Ended, command_body

# Action and argument in a cell, and the text that record and terminal must contain.
CRASHES = (
    ("MemoryError", "", "out of memory|MemoryError"),
    ("OutOfMemoryError", "", "out of memory"),
    ("segfault", "", "SIGSEGV"),
    ("sys.exit", "0", r"sys\.exit\(0\)|exit code 0"),
    ("os._exit", "3", "exit code 3"),
    ("os._exit", "0", "exit code 0"),
)
KILLS = (("signal", "SIGKILL", "SIGKILL.*out of memory"), ("os._exit", "137", "exit code 137.*out of memory"))
RERUNS = 10
# Columns of costs in the summary's table, which differ between runs.
COSTS = ("seconds", "per_second", "peak_", "utilization", "disturbed")


def crash_cell(trial: Trial) -> None:
    """F7: a cell runs out of memory, crashes or exits, in one start or in every one."""
    _strike_cell(trial, *CRASHES[trial.number % len(CRASHES)])


def kill_cell(trial: Trial) -> None:
    """F8: a cell is killed as by the kernel's out-of-memory killer, once or at every start."""
    _strike_cell(trial, *KILLS[trial.number % len(KILLS)])


def _strike_cell(trial: Trial, action: str, argument: str, cause: str) -> None:
    matrix = draw_matrix(trial)
    victim = trial.chance.choice(matrix.cells)
    always = trial.chance.random() < 0.4
    # A start that resumes from a checkpoint has fewer events than the first one.
    last = matrix.moments(victim) // (4 if always else 1)
    once = "" if always else str(trial.folder / "has-happened")
    count = trial.chance.randint(1, last)
    ended = trial.ended(matrix.launch(Strike(action, count, IN_CELLS, argument, cell=matrix.words(victim), once=once)))
    for cell in matrix.cells:
        if cell != victim:
            matrix.check_same(cell)
    record = checks.read_record(matrix.check_stopped(victim))
    starts = matrix.starts(victim)
    check_struck(starts)
    if record.status == "done":
        expect(not always or not was_struck(starts[-1]), DISHONEST, "done, though it was struck in its last start")
        expect(ended.code == 0, DISHONEST, f"all cells are done, and the exit code is {ended.code}")
        check_retry(matrix, victim, starts)
        said = len(starts) == 1 or re.search(cause, ended.errors)
        expect(said, DISHONEST, f"the terminal does not say why a cell was started again: {ended.errors[-800:]}")
    else:
        final = record.failure is not None and record.failure.final
        expect(always or final, LOST, f"struck once, retried, and {record.status}: {record.failure}")
        expect(len(starts) == (1 if final else 2), DISHONEST, f"{len(starts)} starts: {record.failure}")
        check_named(ended, record, cause, any(event.kind == "step" for event in starts[-1]))
    matrix.go_on()


def check_struck(starts: list[list[Event]]) -> None:
    """Raise an error of the harness if no start was struck, since the trial then shows nothing."""
    if not any(map(was_struck, starts)):
        raise RuntimeError(f"nothing has happened in {[len(events) for events in starts]} moments")


def was_struck(events: list[Event]) -> bool:
    return any(event.kind == "strike" for event in events)


def check_named(ended: Ended, record: Record, cause: str, has_spoken: bool) -> None:
    """Check that record, terminal and exit code state the cause of a failure."""
    message = record.failure.message if record.failure is not None else ""
    expect(record.status == "failed", DISHONEST, f"status {record.status} instead of failed: {message}")
    expect(re.search(cause, message), DISHONEST, f"the record does not name the cause ({cause}): {message}")
    expect(re.search(cause, ended.errors), DISHONEST, f"the terminal does not name the cause: {ended.errors[-800:]}")
    expect(record.name in ended.errors, DISHONEST, f"the terminal does not name the run: {ended.errors[-800:]}")
    expect(ended.code == 1, DISHONEST, f"a cell failed, and the exit code is {ended.code}")
    killed = "the process ended" in message
    expect(not killed or not has_spoken or "last words:" in message, DISHONEST, f"no last words: {message}")


def check_retry(matrix: Matrix, cell: Setting, starts: list[list[Event]]) -> None:
    """Check that a cell that was struck once was restarted, resumed, and equals its reference."""
    matrix.check_same(cell)
    expect(len(starts) <= 2, DISHONEST, f"{len(starts)} starts")
    if len(starts) == 1:
        return  # the strike had no effect: the operation may fail
    first, second = starts
    until = next(number for number, event in enumerate(first) if event.kind == "strike")
    # The last event before the strike had not happened yet.
    published = [re.search(r"/checkpoints/step-(\d+)$", event.path) for event in first[: until - 1]]
    kept = max((int(step[1]) for step in published if step is not None), default=0)
    train = checks.read_record(matrix.run(cell)).train
    wanted = 0 if train is None else train.steps - kept
    updates = sum(event.kind == "update" for event in second)
    expect(updates == wanted, LOST, f"the retry trained {updates} steps instead of {wanted}")


def work_at_once(trial: Trial) -> None:
    """F9: two sweeps, two starts of one run, or summaries while a run trains."""
    (two_sweeps, two_runs, summaries_meanwhile)[trial.number % 3](trial)


def two_sweeps(trial: Trial) -> None:
    """The same sweep twice at once: the launchers share the work, and nothing is done twice."""
    matrix = draw_matrix(trial)
    first = matrix.launch()
    time.sleep(trial.chance.choice([0.0, trial.chance.uniform(0, 4)]))
    second = matrix.launch()
    for launcher in (first, second):
        ended = trial.ended(launcher)
        expect(ended.code == 0, DISHONEST, f"one of two sweeps ended with {ended.code}: {ended.errors[-800:]}")
    matrix.check_cells()
    for cell in matrix.cells:
        matrix.check_trained_once(cell, trial.journals)


def two_runs(trial: Trial) -> None:
    """The same run twice at once: one process does it, the other names that process and ends."""
    setting = trial.setting()
    reference = trial.reference(setting)
    body = command_body(TRAIN, setting.arguments(trial.model))
    children = [trial.child(body)]
    time.sleep(trial.chance.choice([0.0, trial.chance.uniform(0, 1.2 * reference.seconds)]))
    children.append(trial.child(body))
    ended = [trial.ended(child) for child in children]
    codes = [each.code for each in ended]
    updates = [each.count("update") for each in ended]
    expect(0 in codes and set(codes) <= {0, 1}, DISHONEST, f"exit codes {codes}: {ended[1].errors[-500:]}")
    for each, other in zip(ended, reversed(children), strict=True):
        if each.code == 1:
            expect(f"process {other.pid} on" in each.errors, DISHONEST, f"names no owner: {each.errors[-500:]}")
            expect(each.count("step") == 0, LOST, "the one that was refused has trained")
    run = trial.check_same(reference)
    train = checks.read_record(run).train
    expect(train is not None and sum(updates) == train.steps, LOST, f"{updates} steps were trained by the two")


def summaries_meanwhile(trial: Trial) -> None:
    """Summaries in a loop while a matrix trains: never torn, never disturbing it, and correct at the end."""
    matrix = draw_matrix(trial, most=4)
    launcher = matrix.launch()
    cells = trial.cells
    summary = trial.outputs / "summary"
    while not launcher.wait(trial.chance.uniform(0, 0.3)):
        ended = trial.ended(trial.child(command_body(SUMMARIZE, ["outputs=outputs"])))
        clean = ended.code == 0 or (ended.code in (1, 2) and "error: " in ended.errors)
        expect(clean and "Traceback" not in ended.errors, DISHONEST, f"a summary: {ended.code}, {ended.errors}")
        expect(ended.code == 0 or not summary.exists(), LOST, f"the second summary could not be made: {ended.errors}")
        if summary.is_dir():
            checks.check_whole(summary)
    ended = trial.ended(launcher)
    expect(ended.code == 0, DISHONEST, f"the sweep ended with {ended.code}: {ended.errors[-800:]}")
    matrix.check_cells()
    for cell in matrix.cells:
        matrix.check_trained_once(cell, cells)
    expect(trial.summarize().code == 0, LOST, "no summary in the end")
    found, wanted = table(summary), undisturbed_table(matrix)
    expect(found == wanted, DIFFERENT, f"the summary says {found}, undisturbed {wanted}")


def table(summary: Path) -> list[dict[str, str]]:
    """Return the rows of a summary's CSV without costs."""
    with (summary / "results_summary.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: text for key, text in row.items() if not any(cost in key for cost in COSTS)} for row in rows]


def undisturbed_table(matrix: Matrix) -> list[dict[str, str]]:
    """Return the rows of `table` for the references of all cells."""
    trial, place = matrix.trial, matrix.trial.folder / "undisturbed"
    for cell in matrix.cells:
        run = matrix.reference(cell).run.path
        shutil.copytree(run, place / "outputs" / "demo" / run.name)
    ended = trial.ended(trial.child(command_body(SUMMARIZE, ["outputs=outputs"]), cwd=place))
    expect(ended.code == 0, DISHONEST, ended.errors)
    return table(place / "outputs" / "summary")


def kill_launcher(trial: Trial) -> None:
    """F1, in a matrix: kill -9 of the launcher; its cells notice, write a checkpoint and end."""
    matrix = draw_matrix(trial)
    victim = trial.chance.choice(matrix.cells)
    at_once = trial.chance.random() < 0.4
    moment = trial.chance.randint(1, matrix.moments(victim))
    ended = trial.ended(matrix.launch(Strike("signal parent", moment, IN_CELLS, "SIGKILL", cell=matrix.words(victim))))
    check_struck(matrix.starts(victim))
    expect(ended.code == -signal.SIGKILL, DISHONEST, f"the launcher ended with {ended.code} instead of by the kill")
    if at_once:
        ended = trial.ended(matrix.launch())
        expect(ended.code == 0, LOST, f"the same sweep again ended with {ended.code}: {ended.errors[-800:]}")
        matrix.check_cells()
        for cell in matrix.cells:
            matrix.check_trained_once(cell, trial.journals)
        return
    check_nobody_left(trial, 30)
    for cell in matrix.cells:
        check_asked(matrix, cell)
    expect(checks.read_record(matrix.run(victim)).status != "done", DISHONEST, "the cell went on without its launcher")
    matrix.go_on()


def stop_launcher(trial: Trial) -> None:
    """F13, in a matrix: the launcher gets a stop signal; its cells write checkpoints, and no process remains."""
    matrix = draw_matrix(trial)
    victim = trial.chance.choice(matrix.cells)
    names = SIGNALS[trial.number // 3 % len(SIGNALS)]
    number = signal.Signals[names.split()[0]]
    moment = trial.chance.randint(1, matrix.moments(victim))
    ended = trial.ended(matrix.launch(Strike("signal parent", moment, IN_CELLS, names, cell=matrix.words(victim))))
    check_struck(matrix.starts(victim))
    check_nobody_left(trial, 0.5)
    wanted = 128 + number
    expect(ended.code == wanted, DISHONEST, f"exit code {ended.code} instead of {wanted}: {ended.errors[-600:]}")
    for cell in matrix.cells:
        check_asked(matrix, cell, twice=" " in names)
    matrix.go_on()


def check_asked(matrix: Matrix, cell: Setting, *, twice: bool = False) -> None:
    """Check the state of a cell after its launcher was stopped: done, not begun, or interrupted with a checkpoint."""
    run = matrix.check_stopped(cell)
    record = checks.read_record(run)
    allowed = ("pending", "interrupted", "done")
    expect(record.status in allowed, DISHONEST, f"{matrix.words(cell)}: {record.status}: {record.failure}")
    killed = record.failure is not None and "was killed" in record.failure.message
    expect(twice or not killed, DISHONEST, f"{matrix.words(cell)} was not given the time to stop: {record.failure}")
    taken = len([row for row in run.read_metrics() if "loss" in row])
    newest = max(checks.whole_checkpoints(run), default=0)
    expect(twice or newest >= taken, LOST, f"{taken} steps were taken, the newest checkpoint is of step {newest}")


def rerun_finished(trial: Trial) -> None:
    """F20: a finished sweep is repeated, also in another order or in parts: nothing changes."""
    matrix = draw_matrix(trial, most=4)
    ended = trial.ended(matrix.launch())
    expect(ended.code == 0, DISHONEST, f"the sweep ended with {ended.code}: {ended.errors[-800:]}")
    matrix.check_cells()
    before = snapshot(trial.outputs)
    for _ in range(RERUNS):
        axes = {name: trial.chance.sample(list(values), len(values)) for name, values in matrix.axes.items()}
        if trial.chance.random() < 0.3:
            axes = {name: values[:-1] or values for name, values in axes.items()}
        again = Matrix(trial, matrix.base, axes, matrix.more)
        single = trial.chance.random() < 0.2
        child = trial.child(command_body(TRAIN, again.cells[0].arguments(trial.model))) if single else again.launch()
        ended = trial.ended(child)
        expect(ended.code == 0, LOST, f"done before, and now it ended with {ended.code}: {ended.errors[-800:]}")
        started = [cell for cell in matrix.cells if not single and matrix.starts(cell)]
        expect(not started and ended.count("step") == 0, LOST, f"started again: {started}")
        touched = {name for name, _ in set(before.items()) ^ set(snapshot(trial.outputs).items())}
        expect(not touched, LOST, f"touched: {sorted(touched)}")


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and modification time of every file below a folder, except lock files."""
    return {
        name: (hashlib.sha256(content).digest(), (folder / name).stat().st_mtime_ns)
        for name, content in checks.contents(folder).items()
    }
