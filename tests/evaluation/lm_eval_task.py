"""A task of our own for lm-evaluation-harness: no network, and of no group of tasks."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_task(folder: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write a task, version 3.0, of multiple choice into a folder, and return the folder.

    Args:
        folder: That exists.
        name: Of the task.
        rows: Each with `question`, `choices` and `answer`, the place of the right one.
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
