"""What the trials in a process of their own say of the device, its precisions, 4-bit weights and memory."""

from collections.abc import Iterable, Sequence
from typing import Any

from medqa_finetune.checkup.result import Check, State
from medqa_finetune.checkup.trials import Request, Trial, run_trials
from medqa_finetune.errors import Fault
from medqa_finetune.languages.translate import Kind, say, translated
from medqa_finetune.memory import GIB

# torch from a slow disk takes minutes to load.
SECONDS = 180.0
TERA = 1e12


def try_all(request: Request) -> list[Trial]:
    """Return the findings of all trials; where their process ends early, the last one says how."""
    from medqa_finetune.child_process import NoReplyError, stream

    found: list[Trial] = []
    try:
        with stream(run_trials, request, quiet=True) as child:
            found += child.replies(SECONDS)
    except NoReplyError as error:
        said = f" ({error.last_line[:200]})" if error.last_line else ""
        hint = "A GPU may hang; nvidia-smi shows it." if error.timed_out else ""
        found.append(Trial("ended", faults=[Fault("process-ended", f"the trial {error.problem}{said}", hint=hint)]))
    return found


def device_checks(trials: Sequence[Trial], wanted: Iterable[str]) -> list[Check]:
    """Return the checks `device`, `precision` and `bitsandbytes`.

    Args:
        trials: What was found.
        wanted: Quantizations that the asked cells use; another one that does not work stops nothing.
    """
    ended = [fault for each in trials if each.name == "ended" for fault in each.faults]
    device = _device([each for each in trials if each.name in ("torch", "device")], ended)
    if device.state == State.PROBLEM:
        reason = say("not tried, since the device cannot be used")
        return [device, *(Check(name, State.SKIPPED, reason) for name in ("precision", "bitsandbytes"))]
    precision = _precision([each for each in trials if each.name == "precision"], device, ended)
    return [device, precision, _quantization([e for e in trials if e.name == "quantization"], set(wanted), ended)]


def _device(trials: Sequence[Trial], ended: Sequence[Fault]) -> Check:
    facts = {name: value for each in trials for name, value in each.facts.items()}
    faults = [fault for each in trials for fault in each.faults]
    if faults or "type" not in facts:
        return Check("device", State.PROBLEM, facts=facts, faults=faults or ended)
    memory = f"{facts['memory_bytes'] / GIB:.1f} GiB"
    if facts["type"] == "cuda":
        values = {"count": facts["count"], "name": facts["name"], "memory": memory, "cuda": facts["cuda"]}
        free = f"{facts['free_bytes'] / GIB:.1f} GiB"
        line = say("{count} × {name}, {memory} ({free} free), CUDA {cuda}", free=free, **values)
        return Check("device", State.OK, line, facts)
    line = say(
        "{name}, {memory} of memory; no GPU: small models and the demo alone",
        name=translated(facts["name"], Kind.SAID),
        memory=memory,
    )
    return Check("device", State.WARNING, line, facts)


def _precision(trials: Sequence[Trial], device: Check, ended: Sequence[Fault]) -> Check:
    if not trials:
        return Check("precision", State.PROBLEM, faults=ended)
    (trial,) = trials
    facts = {"auto": device.facts["precision"], "bf16": device.facts["bf16"], "flops_per_second": trial.facts}
    rates = ", ".join(f"{name} {rate / TERA:.2g}" for name, rate in trial.facts.items())
    line = say(
        "precision=auto is {precision}; {rates} TFLOP/s measured", precision=device.facts["precision"], rates=rates
    )
    if device.facts["type"] == "cuda":
        line += say("; bf16 in hardware") if device.facts["bf16"] else say("; bf16 is emulated")
    return Check("precision", State.PROBLEM if trial.faults else State.OK, line, facts, trial.faults)


def _quantization(trials: Sequence[Trial], wanted: set[str], ended: Sequence[Fault]) -> Check:
    from medqa_finetune.checkup.system import version_of

    works = {each.facts["quantization"]: each.facts["works"] for each in trials if each.facts}
    faults = [fault for each in trials for fault in each.faults] + [*ended]
    facts: dict[str, Any] = {"version": version_of("bitsandbytes"), "works": works}
    names = ", ".join(name for name, does in works.items() if does)
    line = say("{names} work, forward and backward", names=names) if names else ""
    stops = any(not works.get(name) for name in wanted)
    # The same library fails for both in the same way.
    return Check(
        "bitsandbytes", State.PROBLEM if stops else State.WARNING if faults else State.OK, line, facts, faults[:1]
    )
