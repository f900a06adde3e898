"""Check what the README's demo command wrote. usage: python check_demo.py outputs/demo"""

import csv
import json
import sys
from itertools import pairwise
from pathlib import Path

SIZES = {"n200": 200, "n500": 500, "n1000": 1000}


def main(outputs: Path) -> None:
    """Fail with a message unless the matrix is whole and its learning curves rise."""
    records = {path.parent.name: json.loads(path.read_text("utf-8")) for path in outputs.glob("*/record.json")}
    expected = {f"{method}_{size}" for method in ("retrieval", "lora", "qlora") for size in SIZES} | {"none"}
    assert set(records) == expected, f"runs: {sorted(records)}"
    assert all(record["status"] == "done" for record in records.values()), "a run is not done"
    assert len({record["data_manifest"]["test"]["sha256"] for record in records.values()}) == 1, "test sets differ"
    rouge = {name: record["evaluation"]["scores"]["rougeL"]["value"] for name, record in records.items()}
    for method in ("lora", "qlora"):
        names = ["none", *(f"{method}_{size}" for size in SIZES)]
        curve = [rouge[name] for name in names]
        assert all(low < high for low, high in pairwise(curve)), f"{method}: no learning curve: {curve}"
        print(f"{method}: ROUGE-L " + " < ".join(f"{value:.1f}" for value in curve))
        for size, n in SIZES.items():
            assert records[f"{method}_{size}"]["data_manifest"]["train"]["n"] == n
    summary = outputs / "summary"
    with (summary / "results_summary.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["name"] for row in rows} == expected, "results_summary.csv misses a run"
    for name in ("data_scale_comparison.png", "method_comparison.png"):
        assert (summary / name).read_bytes().startswith(b"\x89PNG"), name
    page = (summary / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>"), "report.html is torn"
    assert all(name in page for name in expected - {"none"}), "report.html misses a run"
    for name in ("report.md", "comparisons.csv"):
        assert (summary / name).stat().st_size > 0, name
    print(f"{len(records)} runs done, {len(rows)} rows, 2 plots, {len(page):,} characters of report")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
