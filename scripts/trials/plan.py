"""Lists the injected faults by number."""

from collections.abc import Callable
from dataclasses import dataclass

from scripts.trials import (
    again,
    changes,
    disks,
    files,
    first_version,
    leases,
    patterns,
    remade,
    stops,
    surroundings,
    sweeps,
)
from scripts.trials.trial import Trial


@dataclass(frozen=True)
class Injection:
    """Description of a fault, and the function of its trial."""

    injected: str
    run: Callable[[Trial], None]


def _every_third(usual: Callable[[Trial], None], third: Callable[[Trial], None]) -> Callable[[Trial], None]:
    return lambda trial: (third if trial.number % 3 == 2 else usual)(trial)


def _every_other(usual: Callable[[Trial], None], other: Callable[[Trial], None]) -> Callable[[Trial], None]:
    return lambda trial: (other if trial.number % 2 else usual)(trial)


FAULTS: dict[str, Injection] = {
    "F1": Injection(
        "kill -9 at a random step or moment of training; of a matrix's launcher",
        _every_third(stops.kill_at_step, sweeps.kill_launcher),
    ),
    "F2": Injection("kill -9 at a random write of a checkpoint, or in the middle of one", stops.kill_in_checkpoint),
    "F3": Injection("kill -9 while questions are answered", stops.kill_in_evaluation),
    "F4": Injection("kill -9 while the summary is written", stops.kill_in_summary),
    "F5": Injection("a full disk (a small one that fills up, single errors, a limit of file sizes)", disks.fill_up),
    "F6": Injection(
        "outputs read-only at the start; read-only, over quota or gone while a run goes on", disks.take_away
    ),
    "F7": Injection("a cell runs out of memory, crashes or leaves, once or in every start", sweeps.crash_cell),
    "F8": Injection(
        "kill -9 of a cell, once or in every start, as when the machine is out of memory", sweeps.kill_cell
    ),
    "F9": Injection("a sweep twice at once; a run twice at once; summaries while a matrix trains", sweeps.work_at_once),
    "F10": Injection(
        "another day, a clock that jumps, files of one age or in reverse order, another zone", files.disturb_clocks
    ),
    "F11": Injection("a checkpoint damaged or swapped after a kill, or the trained weights", files.damage_checkpoints),
    "F12": Injection(
        "a record, of a run or an evaluation, that is torn, empty, older, of wrong values, or there twice",
        files.damage_record,
    ),
    "F13": Injection(
        "SIGTERM, SIGINT, SIGINT twice, SIGHUP, SIGUSR2; to a matrix's launcher",
        _every_third(stops.stop_by_signal, sweeps.stop_launcher),
    ),
    "F14": Injection(
        "a loss that is NaN or infinite, or no answer token left to learn from", surroundings.spoil_losses
    ),
    "F15": Injection("outputs moved or copied elsewhere after a kill, alone or with the model", files.move_away),
    "F16": Injection("defaults, data, code, a library or a file changed after a kill", changes.change_between),
    "F17": Injection(
        "TensorBoard's folder is a file, unwritable or gone; its writer fails", surroundings.break_tracker
    ),
    "F18": Injection("no network", surroundings.cut_off),
    "F19": Injection("a batch of answers hangs, or all are slow from some batch on", surroundings.hang_answers),
    "F20": Injection(
        "a finished sweep ten times again, in another order, in part, or one run of it", sweeps.rerun_finished
    ),
    "F21": Injection("kill -9 or SIGTERM at a random moment of a run's second evaluation", again.kill_second),
    "F22": Injection("two evaluations of one run at once, of other settings or the same", again.evaluate_at_once),
    "F23": Injection(
        "an evaluation asked for while the run trains or answers; two evaluations of one training in a matrix",
        _every_other(again.ask_while_training, patterns.evaluations_in_a_matrix),
    ),
    "F24": Injection(
        "a folder of schema version 1, killed while it is upgraded, evaluated again or resumed",
        first_version.upgrade_first,
    ),
    "F25": Injection(
        "`evaluate run=PATTERN` for several runs, its launcher or a cell killed", patterns.evaluate_pattern
    ),
    "F26": Injection("trained weights of a finished run damaged before its second evaluation", remade.damage_weights),
    "F27": Injection(
        "a run paused or killed on one machine, taken over on another whose clock is off; the paused one goes on",
        leases.take_over,
    ),
}
