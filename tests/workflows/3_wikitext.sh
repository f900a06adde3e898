#!/usr/bin/env bash
# Was: train.py --use_lora --lora_r 64 --load_in_4bit on WikiText-2, then chat.py with --load_in_4bit.
# MODEL: a model folder; TEXT: a folder of text files; OUTPUTS: a folder.
set -euo pipefail
python -m medqa_finetune.train method=qlora method.rank=64 corpus=text corpus.path="$TEXT" model=local \
  model.path="$MODEL" outputs="$OUTPUTS" run_name=wikitext "$@"
python -m medqa_finetune.train method=none corpus=text corpus.path="$TEXT" model=local \
  model.path="$MODEL" outputs="$OUTPUTS" run_name=untuned "$@"
summarize outputs="$OUTPUTS"
echo '多喝水有用吗？' | python -m medqa_finetune.chat model="$MODEL" adapter="$OUTPUTS/wikitext/adapter" \
  load_in_4bit=true mode=text prompt=- max_new_tokens=8 > "$OUTPUTS/answer.txt"
