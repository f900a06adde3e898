#!/usr/bin/env bash
# Was: run_all.py --model phi-2 --samples 200 --epochs 1: base, quantized, LoRA, LoRA quantized, and a table of them.
# MODEL: a model folder; PAIRS: question and answer as JSON Lines; OUTPUTS: a folder.
set -euo pipefail
python -m medqa_finetune.export pipeline=variants samples=200 epochs=1 model=local model.path="$MODEL" corpus=jsonl \
  corpus.path="$PAIRS" outputs="$OUTPUTS" export.to="$OUTPUTS/variants" "$@"
