"""Whatever bytes a file of predictions holds, its answers are scored, or one honest error comes out."""

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scripts.reader_checks import check_answers

modestly = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
WHOLE = {"id": "a", "question": "头痛", "reference": "多休息。", "prediction": "休息。", "hit_limit": False,
         "prediction_tokens": 3, "reference_nll": 12.5, "reference_tokens": 4}  # fmt: skip
KEYS = [*WHOLE, "references", "refs", "hyp", "other"]
values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([1e308, 10**400])
    | st.lists(st.text(max_size=5) | st.integers(), max_size=3)
    | st.dictionaries(st.text(max_size=3), st.none(), max_size=2)
)  # fmt: skip
rows = st.lists(st.dictionaries(st.sampled_from(KEYS), values, max_size=4).map(lambda row: WHOLE | row), max_size=4)


@given(content=st.binary(max_size=300))
@modestly
@example(content=b'{"id": "' + b"9" * 5000 + b'", "reference": "r", "prediction": "p"}\n' + json.dumps(WHOLE).encode())
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    check_answers(tmp_path / "a.jsonl", content)


@given(rows=rows, without=st.sets(st.sampled_from(KEYS), max_size=3))
@modestly
def test_any_values_under_the_keys_of_an_answer(tmp_path: Path, rows: list[dict[str, Any]], without: set[str]) -> None:
    kept = [{key: value for key, value in row.items() if key not in without} for row in rows]
    check_answers(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in kept).encode())
