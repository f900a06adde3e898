"""Check a second evaluation of the demo's runs. usage: python check_evaluations.py outputs/demo NAME"""

import json
import sys
from pathlib import Path


def main(outputs: Path, name: str) -> None:
    """Fail with a message unless every run has the evaluation, with no answer that its default one does not hold."""
    runs = sorted(path.parent for path in outputs.glob("*/record.json"))
    assert runs, f"no runs in {outputs}"
    for run in runs:
        evaluation = json.loads((run / "evaluations" / name / "evaluation.json").read_text("utf-8"))
        first, second = (
            {row["id"]: row["prediction"] for row in map(json.loads, path.read_text("utf-8").splitlines())}
            for path in (run / "evaluations" / each / "predictions.jsonl" for each in ("default", name))
        )
        assert evaluation["status"] == "done", f"{run.name}: {evaluation['status']}"
        assert evaluation["reused"] == {"evaluation": "default", "answers": len(second)}, f"{run.name}: not reused"
        assert second.items() <= first.items(), f"{run.name}: other answers"
        assert evaluation["result"]["n"] == len(second), f"{run.name}: n"
    print(f"{len(runs)} runs evaluated again, every answer taken from the default evaluation")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
