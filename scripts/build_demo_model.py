"""Build `medqa-tiny`, the small Qwen2 chat model that ships inside the package.

    python scripts/build_demo_model.py            # default seed and steps, about twenty minutes on two cores

The tokenizer is trained on the embedded corpus, the weights on encyclopedia-like text about its conditions (passages,
single sentences, and questions followed by such sentences) and on small talk; never on an answer of the corpus, because
fine-tuning is what shall teach the model to answer, nor on a question about a held-out condition. The same seed,
steps, machine and library versions give the same bytes (`--minutes` may cut a run short and so break that).
"""

import argparse
import hashlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from medqa_finetune.data.embedded import (
    embedded_rows,
    embedded_sha256,
    pretraining_questions,
    pretraining_sentences,
    pretraining_texts,
)

DEFAULT_OUT = Path(__file__).resolve().parents[1] / "medqa_finetune" / "model" / "tiny"
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VOCABULARY_SIZE = 3600
# 6 bytes are two Chinese characters. Longer tokens would swallow whole set phrases of the answers, whose embeddings
# pre-training never sees and LoRA cannot train.
LONGEST_TOKEN = 6
BLOCK_TOKENS = 256
BLOCKS_PER_BATCH = 4
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
README = """# medqa-tiny

A Qwen2-architecture chat model of about 2.5 million parameters, built by `scripts/build_demo_model.py` in twenty
minutes on a CPU from the project's own embedded corpus. Licence: Apache-2.0. For demonstration and tests only:
it knows that corpus and nothing else. NOT MEDICAL ADVICE. 仅供软件演示，不构成医疗建议。
"""


def chatter() -> Iterator[tuple[str, str]]:
    """Yield some hundreds of small-talk exchanges; from them the model learns that an answer ends in <|im_end|>."""
    loaded = json.loads(Path(__file__).with_name("demo_model_chatter.json").read_text(encoding="utf-8"))
    openings, closings = loaded["openings"], loaded["closings"]
    for number, (question, answer) in enumerate(loaded["exchanges"]):
        for turn, opening in enumerate(openings):
            yield opening + question, answer + closings[(number + turn) % len(closings)]


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with the ChatML special tokens."""
    rows = list(embedded_rows())
    lines = [*pretraining_texts(), *(f"{row['question']}\n{row['answer']}" for row in rows)]
    lines += [f"{question}\n{answer}" for question, answer in chatter()]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    core.train_from_iterator(lines, trainer)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A randomly initialised Qwen2 model with about 2.5 million parameters, in float32."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=576,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def encode_documents(tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """The token ids of every passage, sentence and piece of small talk, each ending in the separator token."""
    chats: list[str] = []
    for question, answer in chatter():
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        chats.append(str(tokenizer.apply_chat_template(messages, tokenize=False)))
    texts = [*pretraining_texts(), *pretraining_sentences(), *pretraining_questions(), *chats]
    return [tokenizer.encode(text + PAD) for text in texts]


def batches(documents: Sequence[Sequence[int]], seed: int) -> Iterator[torch.Tensor]:
    """Yield batches of packed blocks without end, in a new order of documents each round.

    Yields:
        Token ids, int64, of shape (BLOCKS_PER_BATCH, BLOCK_TOKENS).
    """
    order = random.Random(seed)  # noqa: S311 - a reproducible order, nothing secret
    needed = BLOCKS_PER_BATCH * BLOCK_TOKENS
    pending: list[int] = []
    while True:
        for document in order.sample(documents, len(documents)):
            pending.extend(document)
            if len(pending) >= needed:
                yield torch.tensor(pending[:needed]).view(BLOCKS_PER_BATCH, BLOCK_TOKENS)
                pending = pending[needed:]


def pretrain(
    model: Qwen2ForCausalLM, documents: Sequence[Sequence[int]], *, seed: int, steps: int, minutes: float, peak: float
) -> float:
    """Train by next-token prediction and return the last step's loss, in nats per token.

    The learning rate rises to `peak` over the first 30 steps, then falls along a cosine to a twentieth of it.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.05)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=30)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - 30), eta_min=peak / 20)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm_up, cosine], milestones=[30])
    deadline = time.monotonic() + 60 * minutes
    model.train()
    last_loss = float("nan")
    progress = tqdm(zip(range(steps), batches(documents, seed), strict=False), total=steps, unit="step")
    for _, block in progress:
        loss = model(input_ids=block, labels=block).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        last_loss = loss.item()
        progress.set_postfix(loss=f"{last_loss:.3f}", refresh=False)
        if time.monotonic() > deadline:
            break
    return last_loss


def save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, record: dict[str, object]) -> str:
    """Write the model folder in float16 and return the SHA-256 of the weights."""
    out.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    torch.nn.Module.to(model, torch.float16)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "README.md").write_text(README, encoding="utf-8")
    (out / "model.safetensors").chmod(0o644)  # safetensors makes it readable to the owner only
    digest = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    (out / "build.json").write_text(json.dumps(record | {"weights_sha256": digest}, indent=2) + "\n", encoding="utf-8")
    return digest


def build(out: Path, *, seed: int, steps: int, minutes: float, peak: float) -> str:
    """Build the whole model folder and return the SHA-256 of the weights."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    tokenizer = train_tokenizer()
    model = new_model(tokenizer)
    documents = encode_documents(tokenizer)
    loss = pretrain(model, documents, seed=seed, steps=steps, minutes=minutes, peak=peak)
    record: dict[str, object] = {"seed": seed, "steps": steps, "corpus_sha256": embedded_sha256()}
    record |= {"torch": str(torch.__version__), "threads": torch.get_num_threads(), "last_loss": round(loss, 4)}
    return save(model, tokenizer, out, record)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and build the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder to write (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=6000, help="pre-training steps (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop pre-training after this long")
    parser.add_argument("--learning-rate", type=float, default=2.5e-3, help="peak learning rate (default: %(default)s)")
    options = parser.parse_args(arguments)
    digest = build(
        options.out, seed=options.seed, steps=options.steps, minutes=options.minutes, peak=options.learning_rate
    )
    size = sum(path.stat().st_size for path in options.out.iterdir())
    print(f"{options.out}: {size} bytes; model.safetensors sha256 {digest}")


if __name__ == "__main__":
    main()
