import shlex

import pytest

from medqa_finetune.record.schema import Environment
from medqa_finetune.report.html.reproduce import commands_of, settings_of
from tests.report.builders import record


def environment(device: str, *command: str) -> Environment:
    return Environment({"python": "3.11.7", "medqa-finetune": "0.1.0", "torch": "2.13.0"}, device, "fp16", "abc",
                       ["python", "-m", "medqa_finetune.train", *command])  # fmt: skip


def test_runs_that_share_an_environment_stand_together() -> None:
    records = [record(data=data, environment=environment(device)) for data, device in
               (("20k", "T4"), ("50k", "H200"), ("100k", "T4"))]  # fmt: skip
    found = settings_of([*records, record(environment=None)])
    assert [(each.device, each.runs) for each in found] == [("T4", ("lora_20k", "lora_100k")), ("H200", ("lora_50k",))]
    assert found[0].install == "pip install torch==2.13.0"


@pytest.mark.parametrize(
    ("device", "shown"),
    [
        ("CPU, 1 threads", ("CPU, 1 thread", "CPU，1 个线程")),
        ("CPU, 8 threads", ("CPU, 8 threads", "CPU，8 个线程")),
        ("NVIDIA H200", ("NVIDIA H200", "NVIDIA H200")),
    ],
)
def test_devices_in_both_languages(device: str, shown: tuple[str, str]) -> None:
    (found,) = settings_of([record(environment=environment(device))])
    assert (found.device_shown.en, found.device_shown.zh) == shown


@pytest.mark.parametrize(
    "argument", ["seed=1", "run_name='a b'", "corpus.path='$HOME/`x`'", "x='\"'", "a\nb", "医学 !'"]
)
def test_a_shell_reads_the_same_arguments(argument: str) -> None:
    ((name, line),) = commands_of([record(environment=environment("T4", argument)), record(environment=None)])
    assert name == "lora_20k"
    assert shlex.split(line) == ["python", "-m", "medqa_finetune.train", argument]
