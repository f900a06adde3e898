"""Writes a task for lm-evaluation-harness that needs no network and belongs to no group of tasks."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_task(folder: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write a multiple-choice task, version 3.0, into a folder; return the folder.

    Args:
        folder: An existing folder.
        name: Name of the task.
        rows: Each with `question`, `choices` and `answer`, the index of the correct choice.
    """
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    (folder / f"{name}.yaml").write_text(
        f"""\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    validation: {folder / "rows.jsonl"}
output_type: multiple_choice
validation_split: validation
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
target_delimiter: ""
metric_list:
  - metric: acc
metadata:
  version: 3.0
""",
        encoding="utf-8",
    )
    return folder
