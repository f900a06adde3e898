"""Perplexity of a text as transformers' documentation computes it (docs/source/en/perplexity.md, release 5)."""

from pathlib import Path

import torch


def perplexity_of_the_guide(
    folder: Path, content: str, length: int, adapter: Path | None = None, stride: int | None = None
) -> float:
    """Return the perplexity of a text in windows of `length` tokens, with plain transformers (and peft).

    The guide's loop, with a stride of `length` by default: each window's loss is the model's own, a mean over the
    tokens that it predicts, and the sum is weighted by their number. Double precision, where the guide uses single
    precision. The guide counts one token too few in overlapping windows, where shifting the labels loses none.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).double()
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter)).double()  # type: ignore[assignment]
    model.train(False)
    ids = AutoTokenizer.from_pretrained(folder)(content, return_tensors="pt").input_ids
    summed, tokens, read = torch.tensor(0.0, dtype=torch.float64), 0, 0
    for begin in range(0, ids.size(1), stride or length):
        end = min(begin + length, ids.size(1))
        window = ids[:, begin:end]
        labels = window.clone()
        labels[:, : read - end] = -100
        predicted = int((labels[:, 1:] != -100).sum())  # the model shifts the labels to the left by one
        if predicted:
            with torch.no_grad():
                summed += model(window, labels=labels).loss * predicted
            tokens += predicted
        read = end
        if end == ids.size(1):
            break
    return float(torch.exp(summed / tokens))
