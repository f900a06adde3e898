#!/usr/bin/env bash
# Was: train_config_qlora_8bit.json, then an evaluation script with --max_samples, then chat.py with --mode.
# MODEL: a model folder; PAIRS: question and answer as JSON Lines; OUTPUTS: a folder.
set -euo pipefail
python -m medqa_finetune.train method=qlora_8bit data=20k model=local model.path="$MODEL" corpus=jsonl \
  corpus.path="$PAIRS" evaluate.max_samples=4 outputs="$OUTPUTS" run_name=eight_bit "$@"
python -m medqa_finetune.evaluate run="$OUTPUTS/eight_bit" format=json > "$OUTPUTS/scores.json"
python -m medqa_finetune.chat run="$OUTPUTS/eight_bit" mode=demo max_new_tokens=8
python -m medqa_finetune.chat run="$OUTPUTS/eight_bit" mode=text prompt='感冒了怎么办？' max_new_tokens=8 > "$OUTPUTS/answer.txt"
