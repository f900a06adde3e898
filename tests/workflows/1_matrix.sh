#!/usr/bin/env bash
# Was: one YAML file per experiment (lora_20k.yaml … qlora_100k.yaml), one `train.py --config` after another, and a
# notebook that collected the results. MODEL: a model folder; PAIRS: question and answer as JSON Lines; OUTPUTS: a folder.
set -euo pipefail
matrix=(-m method=lora,qlora data=20k,50k,100k model=local model.path="$MODEL" corpus=jsonl corpus.path="$PAIRS"
  outputs="$OUTPUTS" "$@")

python -m medqa_finetune.plan "${matrix[@]}"
python -m medqa_finetune.train "${matrix[@]}"
python -m medqa_finetune.train "${matrix[@]}" # --resume_from_checkpoint: the same command; finished cells stay as they are
summarize outputs="$OUTPUTS"
