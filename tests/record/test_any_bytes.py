"""Whatever bytes the files of a run hold, reading them gives what can be shown and written, or one honest error."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.record.files import check_lines, check_manifest, check_record
from tests.report.builders import record

modestly = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
WHOLE = json.dumps(asdict(record()), ensure_ascii=False)
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 1e999, 10**400, "", "\ud83d", "\x1b[31m", "=1+1", [], {}, [None], "9" * 5000,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in inner for found in places(each, (*path, key)))]


def changed(path: tuple[Any, ...], value: Any) -> str:
    """Return the record as JSON with one value replaced."""
    content = {"all": json.loads(WHOLE)}
    target: Any = content
    whole = ("all", *path)
    for key in whole[:-1]:
        target = target[key]
    target[whole[-1]] = value
    return json.dumps(content["all"]).replace("Infinity", "1e999")  # which is JSON, and as much


@given(content=st.binary(max_size=300))
@modestly
@example(content=b"[" * 3000 + b"\n")
@example(content=b'{"step": 1e999, "steps": 9, "loss": 1e999}\n')
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    check_record(tmp_path, content)
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


@given(start=st.integers(0, len(WHOLE)), length=st.integers(0, 20), text=st.text(max_size=5))
@modestly
def test_a_record_with_a_stretch_changed(tmp_path: Path, start: int, length: int, text: str) -> None:
    check_record(tmp_path, (WHOLE[:start] + text + WHOLE[start + length :]).encode("utf-8", "surrogatepass"))
