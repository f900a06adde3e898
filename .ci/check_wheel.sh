#!/usr/bin/env bash
# Train two demo cells from an installed wheel, in a folder that knows nothing of the repository.
# usage: check_wheel.sh ENVIRONMENT FOLDER
set -euo pipefail
environment=$(realpath "$1")
mkdir -p "$2"
cd "$2"
"$environment/bin/medqa-train" -m profile=demo method=lora,qlora data=20k 2>&1 | tee train.log
"$environment/bin/summarize" outputs=outputs/demo > summary.log
for cell in lora_n200 qlora_n200; do
  grep -q '"status": "done"' "outputs/demo/$cell/record.json" || { echo "$cell is not done"; exit 1; }
  grep -q "^$cell," outputs/demo/summary/results_summary.csv || { echo "$cell is not in the summary"; exit 1; }
done
"$environment/bin/python" - <<'PYTHON'
import medqa_finetune.versions as versions

found = versions.untested_versions()
assert not found, f"the lock that the wheel carries is not what is installed: {found}"
assert versions.shipped_path("constraints.txt").parent.name == "medqa_finetune", "the wheel carries no lock"
PYTHON
