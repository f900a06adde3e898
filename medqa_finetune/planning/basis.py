"""What the figures of a plan rest on."""

from collections.abc import Mapping

from medqa_finetune.languages.labels import joined
from medqa_finetune.languages.translate import Kind, say, translated
from medqa_finetune.planning.cost_model import EFFICIENCY
from medqa_finetune.planning.plan_cells import Plan


def describe_basis(found: Plan, labels: Mapping[str, str]) -> list[str]:
    """Return where the figures of a plan come from; `labels` are the short names of cells."""
    machine = found.workload.machine
    speed = ", ".join(f"{rate / 1e12:.3g} TFLOP/s ({name})" for name, rate in matrix_rates(found).items())
    on_gpu = machine.type == "cuda"
    several = "" if machine.processes == 1 else f"{machine.processes} × "
    name = several + translated(machine.name, Kind.SAID)
    lines = [
        say(
            "{machine}; memory is the peak of GPU memory; disk is the most a cell may take."
            if on_gpu
            else "{machine}; memory is the peak of resident memory; disk is the most a cell may take.",
            machine=say("{names}: {said}", names=name, said=speed) if speed else name,
        )
    ]
    if found.without_model:
        lines.append(
            say(
                "Not trained, answers are looked up: {names}; measured here on a few questions.",
                names=joined(labels.get(name, name) for name in found.without_model),
            )
        )
    if len(found.without_model) == len(found.forecasts):
        return lines
    if found.workload.gpu is not None:
        lines.append(
            say(
                "Computed from that card's data sheet (docs/gpu.md), not measured: correct within about a factor "
                "of two."
            )
        )
    elif found.trials:
        lines.append(say("Measured here: a few steps and answers of {count} kind(s) of cells.", count=found.trials))
    else:
        lines.append(
            say(
                "Computed at {share} of that speed, correct within about a factor of two; plan.probe=true measures.",
                share=f"{EFFICIENCY:.0%}",
            )
        )
    if found.without_weights:
        models = joined(found.without_weights)
        lines.append(say("Random weights replace those of {models}, which are not here.", models=models))
    return lines


def matrix_rates(found: Plan) -> dict[str, float]:
    """Return FLOP/s by precision, with the resolved name in place of `auto`."""
    precision = found.workload.machine.precision
    return {precision if name == "auto" else name: rate for name, rate in found.workload.matrix_rates.items()}
