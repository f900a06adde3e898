"""Make the input of benchmarks: a model of a known architecture with random weights, its tokenizer, and examples.

python -m scripts.benchmarks.make_work model MODEL_FOLDER …, then for each set of lengths … data DATA_FOLDER …
"""

import argparse
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medqa_finetune.config.schema import CorpusConfig
from medqa_finetune.data.prepare import prepare, take_splits
from medqa_finetune.data.splits import SplitRules
from medqa_finetune.errors import DataError, Fault
from scripts.benchmarks.made_pairs import Row, TextMaker, read_rows, write_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAD, END = "<|endoftext|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY = 8000
# `vocab_size` None is the tokenizer's size.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 8192, "vocab_size": None,
    },
    # config.json of Qwen/Qwen2.5-3B-Instruct.
    "qwen2.5-3b": {
        "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 2, "max_position_embeddings": 32768, "rope_theta": 1e6, "rms_norm_eps": 1e-6,
        "vocab_size": 151936,
    },
}  # fmt: skip
SEED = 1
LONGEST = 1000  # characters; rarely exceeds the training's limit of 1024 tokens
SPARE = 1.1  # a cleaned corpus is a little smaller
# Near-duplicates stay in: only the amount of work matters here.
VALIDATION, SIMILARITY = 1, 1.0


def build_tokenizer(texts: Sequence[str]) -> "PreTrainedTokenizerBase":
    """Train a byte-level BPE tokenizer with a ChatML template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, "<|im_start|>", END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token=PAD, eos_token=END)  # type: ignore[no-untyped-call]
    tokenizer.chat_template = CHATML
    return tokenizer


def make_model(folder: Path, architecture: str, rows: Sequence[Row], tokenizer_folder: Path | None) -> None:
    """Write a model of the architecture with random weights, fp32 or, above a gigabyte, bf16, and its tokenizer."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer = (
        build_tokenizer([text for row in rows for text in row.values()])
        if tokenizer_folder is None
        else AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
    )
    shape = ARCHITECTURES[architecture]
    special = {"eos_token_id": END, "pad_token_id": PAD}
    ids: dict[str, Any] = {name: tokenizer.convert_tokens_to_ids(token) for name, token in special.items()}
    vocabulary = shape["vocab_size"] or len(tokenizer)
    config = Qwen2Config(**shape | ids | {"vocab_size": vocabulary}, tie_word_embeddings=True, bos_token_id=None)
    torch.manual_seed(SEED)
    large = architecture != "tiny"
    with torch.device("cuda" if large and torch.cuda.is_available() else "cpu"):
        torch.set_default_dtype(torch.bfloat16 if large else torch.float32)
        model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def rows_of_length(tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Row], tokens: int, n: int) -> list[Row]:
    """Make examples of slightly more than `tokens` tokens, a quarter of them in the question.

    `max_length` truncates the rest, so that every example has exactly that length.
    """
    maker, made = TextMaker(rows, SEED), []
    for _ in range(n):
        row = {}
        for name, share in (("question", 0.25), ("answer", 0.75)):
            # A token has at least one byte and, on average, at most a few characters.
            wanted = round(tokens * share)
            text = maker.text(4 * wanted)
            encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            row[name] = text[: encoded["offset_mapping"][wanted - 1][1]]
        made.append(row)
    return made


def make_data(folder: Path, rows: Sequence[Row], train: int, evaluation: int) -> None:
    """Write the corpus, and the splits that our preparation makes of it, in the peers' formats.

    Raises:
        DataError: too few examples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "pairs.jsonl", rows)
    corpus = CorpusConfig(name="jsonl", source="file", path=str(folder / "pairs.jsonl"), format="jsonl", id="id")
    rules = SplitRules(evaluation, VALIDATION, 0, SIMILARITY)
    splits = take_splits(prepare(corpus, rules, folder / "cache"), train)
    for name, pairs in (("train", splits.train), ("eval", splits.test)):
        written = [{"question": pair.question, "answer": pair.answer} for pair in pairs]
        write_rows(folder / f"{name}.jsonl", written)
        alpaca = [{"instruction": row["question"], "input": "", "output": row["answer"]} for row in written]
        (folder / f"{name}_alpaca.json").write_text(json.dumps(alpaca, ensure_ascii=False), encoding="utf-8")
    info = {name: {"file_name": f"{name}_alpaca.json"} for name in ("train", "eval")}
    (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    shutil.rmtree(folder / "cache")


def choose_rows(rows: Sequence[Row], n: int, longest: int = LONGEST) -> list[Row]:
    """Return a random sample of examples of at most `longest` characters.

    Raises:
        DataError: there are fewer.
    """
    short = [row for row in rows if sum(map(len, row.values())) <= longest]
    if len(short) < n:
        problem = f"{len(short)} pairs of at most {longest} characters, and {n} are needed"
        raise DataError(Fault("corpus-too-small", problem, key="--pairs", hint="Give more pairs, or fewer --rows."))
    return random.Random(SEED).sample(short, n)  # noqa: S311 - reproducible, nothing secret


def main() -> None:
    """Make the requested model or data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("model", "data"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=Path, help="JSON Lines with question and answer; the embedded corpus if absent")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="tiny")
    parser.add_argument("--tokenizer", type=Path, help="folder; one is trained on the pairs if absent")
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--eval", type=int, default=200)
    parser.add_argument("--longest", type=int, default=LONGEST, help="characters of the longest pair")
    parser.add_argument("--tokens", type=int, help="make every pair this long; as it is if absent")
    options = parser.parse_args()
    rows = read_rows(options.pairs)
    if options.what == "model":
        make_model(options.folder, options.architecture, rows, options.tokenizer)
        return
    wanted = round((options.train + options.eval + VALIDATION) * SPARE)
    if options.tokens is None:
        chosen = choose_rows(rows, wanted, options.longest)
    else:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(options.tokenizer, local_files_only=True)
        chosen = rows_of_length(tokenizer, rows, options.tokens, wanted)
    make_data(options.folder, chosen, options.train, options.eval)


if __name__ == "__main__":
    main()
