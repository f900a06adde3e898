"""Whatever bytes the files of a run hold, reading them gives what can be shown and written, or one honest error."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medqa_finetune.record.schema import Environment, Evaluation, FileStamp, Reused, Score
from scripts.reader_checks import check_evaluation, check_lines, check_manifest, check_record
from tests.report.builders import evaluation, record

modestly = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
WHOLE = json.dumps(asdict(record()), ensure_ascii=False)
# As version 1 wrote it: its evaluation is read out of the record.
FIRST = json.dumps(
    asdict(
        record(
            schema_version=1,
            name="lora_20k__evaluate.max_samples=9",
            files={"predictions.jsonl": FileStamp(9, "a" * 64)},
            zero_shot={"task/acc": Score(0.5, "lm-eval")},
            config={
                **record().config,
                "evaluate": {
                    "metrics": ["rouge", "bleu", "perplexity"], "max_samples": 9, "text": "text", "text_path": "a.txt",
                    "text_sha256": "e" * 64, "zero_shot": ["task"], "stride": None,
                },
            },
        )
    ),
    ensure_ascii=False,
)  # fmt: skip
EVALUATION = json.dumps(
    asdict(
        Evaluation(
            name="max_samples=9", identity="i", status="done", settings={"max_samples": 9, "metrics": ["rouge"]},
            reused=Reused("default", 9), result=evaluation(20.0, 3.0, 9), exams={"task/acc": Score(0.5, "lm-eval")},
            environment=Environment({"python": "3.11"}, "CPU", "fp32", None, []),
            files={"predictions.jsonl": FileStamp(9, "a" * 64)},
        )
    ),
    ensure_ascii=False,
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 1e999, 10**400, "", "\ud83d", "\x1b[31m", "=1+1", [], {}, [None], "9" * 5000,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in inner for found in places(each, (*path, key)))]


def changed(path: tuple[Any, ...], value: Any, whole: str = WHOLE) -> str:
    """Return a record as JSON with one value replaced."""
    content = {"all": json.loads(whole)}
    target: Any = content
    keys = ("all", *path)
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value
    return json.dumps(content["all"]).replace("Infinity", "1e999")  # which is JSON, and as much


@given(content=st.binary(max_size=300))
@modestly
@example(content=b"[" * 3000 + b"\n")
@example(content=b'{"step": 1e999, "steps": 9, "loss": 1e999}\n')
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    check_record(tmp_path, content)
    check_evaluation(tmp_path / "other", content)
    check_lines(tmp_path, content)
    check_manifest(tmp_path, content)


@given(path=st.sampled_from(places(json.loads(WHOLE))), value=st.sampled_from(ODD_VALUES))
@modestly
@example(path=("evaluation", "scores", "rougeL", "value"), value=1e999)
@example(path=("evaluation", "n"), value=10**400)
@example(path=("train", "peak_vram_bytes"), value=10**400)
@example(path=("train", "samples_per_second"), value=10**400)
@example(path=("status",), value="9" * 5000)
def test_a_record_with_one_value_changed(tmp_path: Path, path: tuple[Any, ...], value: Any) -> None:
    check_record(tmp_path, changed(path, value).encode())


@given(path=st.sampled_from(places(json.loads(FIRST))), value=st.sampled_from(ODD_VALUES))
@modestly
@example(path=("config", "evaluate", "metrics"), value=[None, "rouge"])
@example(path=("config", "evaluate", "text"), value=-1)
@example(path=("config", "evaluate", "zero_shot"), value=[{}, 1])
@example(path=("config", "evaluate"), value=[None])
@example(path=("config",), value={})
def test_a_record_of_version_1_with_one_value_changed(tmp_path: Path, path: tuple[Any, ...], value: Any) -> None:
    check_record(tmp_path, changed(path, value, FIRST).encode())


@given(path=st.sampled_from(places(json.loads(EVALUATION))), value=st.sampled_from(ODD_VALUES))
@modestly
@example(path=("result", "scores", "rougeL", "value"), value=1e999)
@example(path=("settings",), value={"metrics": [None, 1]})
@example(path=("name",), value="\x1b[31m")
def test_an_evaluation_with_one_value_changed(tmp_path: Path, path: tuple[Any, ...], value: Any) -> None:
    check_evaluation(tmp_path, changed(path, value, EVALUATION).encode())


@given(start=st.integers(0, len(WHOLE)), length=st.integers(0, 20), text=st.text(max_size=5))
@modestly
def test_a_record_with_a_stretch_changed(tmp_path: Path, start: int, length: int, text: str) -> None:
    check_record(tmp_path, (WHOLE[:start] + text + WHOLE[start + length :]).encode("utf-8", "surrogatepass"))
