"""Was: finetune_lora.py --pruned_model on a pruned checkpoint, and FineTuner(model, pairs).train() from a notebook.

Environment: MODEL, a pruned model's folder with pytorch_model.bin; PAIRS, question and answer as JSON Lines; OUTPUTS.
"""

import os
import subprocess
import sys
from pathlib import Path

from medqa_finetune import chat, evaluate, finetune

outputs = Path(os.environ["OUTPUTS"])
converted = outputs / "converted"
subprocess.run([sys.executable, "-m", "medqa_finetune.convert", os.environ["MODEL"], str(converted)], check=True)

run = finetune(converted, os.environ["PAIRS"], "lora", outputs=outputs)
print({name: score.value for name, score in run.scores.items()})
print(evaluate(run))
print(chat(run, max_new_tokens=32).ask("感冒了怎么办？"))
