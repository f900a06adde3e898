"""Stages that differ between fine-tuning on questions with answers and causal language modelling of running text.

An experiment is the same for both; each stage that differs is one method here, chosen by `corpus.task`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from medqa_finetune.config.chat_form import form_of
from medqa_finetune.config.schema import Config, EvaluateConfig
from medqa_finetune.data.prepare import CACHE_NAME, Splits, prepare_splits
from medqa_finetune.errors import Fault, RunError
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.files import sha256_of
from medqa_finetune.record.schema import EvaluationRecord
from medqa_finetune.runtime import settle_before_torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from medqa_finetune.data.blocks import Blocks, Ready
    from medqa_finetune.data.encode import Encoder
    from medqa_finetune.data.examples import Encoded, Example
    from medqa_finetune.data.tables import ExampleTable
    from medqa_finetune.data.token_sets import EncodedSet
    from medqa_finetune.evaluation.decode import Model
    from medqa_finetune.training.fit import TrainingSets

# Modules that load torch or read data are imported where they are used: bad input is refused before that.

# A set, one item of it, and the encoder of items.
Items = TypeVar("Items", bound=Sequence[Any])
Item = TypeVar("Item")
ItemEncoder = TypeVar("ItemEncoder")
# The cost fields of an evaluation record; None where nothing was measured.
Costs = dict[str, Any]


class Task(ABC, Generic[Items, Item, ItemEncoder]):
    """What is learnt: question answering, or running text.

    Attributes:
        generates: Whether the evaluation generates text.
    """

    generates: bool

    @abstractmethod
    def look(self, config: Config) -> Mapping[str, int]:
        """Read the corpus without a model, and return counts of its rows; intermediate results are cached.

        Raises:
            DataError: the corpus cannot be used, or is found too small without a tokenizer.
        """

    @abstractmethod
    def prepare(self, config: Config, model: Path, cache: Path) -> Splits[Items]:
        """Return the training, validation and test set.

        Args:
            config: The experiment.
            model: Folder of the model's files.
            cache: Folder for prepared data.

        Raises:
            MedQAError: the corpus cannot be used, or is too small.
        """

    @abstractmethod
    def ids(self, items: Sequence[Item]) -> list[str]:
        """Return the ids of test items in `predictions.jsonl`."""

    @abstractmethod
    def encoder(self, tokenizer: "PreTrainedTokenizerBase", config: Config, counts: Mapping[str, int]) -> ItemEncoder:
        """Return the encoder of items to token ids: `encode(items)` yields one `Encoded` each.

        Args:
            tokenizer: The model's tokenizer.
            config: The experiment.
            counts: Of its prepared corpus.
        """

    def prepare_model(self, model: "Model", encoder: ItemEncoder, settings: EvaluateConfig) -> None:
        """Let a model's own `generate`, which other programs call, end answers where the evaluation does.

        Raises:
            ModelError: the model cannot answer as the settings say.
        """

    @abstractmethod
    def training_sets(self, encoder: ItemEncoder, splits: Splits[Items], config: Config) -> "TrainingSets":
        """Return the encoded training and validation set."""

    @abstractmethod
    def sample(self, encoder: ItemEncoder, splits: Splits[Items], size: int) -> "EncodedSet":
        """Return the first encoded examples of the validation set, `size` or fewer, at least one."""

    @abstractmethod
    def predict(
        self, model: "Model", encoder: ItemEncoder, items: Sequence[Item], config: Config, folder: EvaluationDir
    ) -> Costs:
        """Write the model's predictions for test items to `folder.predictions_path`.

        Resumes from existing predictions; may modify the model in place.

        Returns:
            The cost fields of an evaluation record.
        """

    @abstractmethod
    def score(self, items: Sequence[Item], config: Config, folder: EvaluationDir) -> EvaluationRecord:
        """Return the scores of `folder.predictions_path`, without costs; writes the scores per item.

        Raises:
            RunError: the file does not cover all items.
        """


class Answering(Task["ExampleTable", "Example", "Encoder"]):
    """Question answering; predictions are compared with references."""

    generates = True

    def look(self, config: Config) -> Mapping[str, int]:
        """Prepare all examples, and return the counts."""
        return prepare_splits(config, Path(config.outputs) / CACHE_NAME).manifest.counts

    def prepare(self, config: Config, model: Path, cache: Path) -> Splits["ExampleTable"]:
        """Read, clean and split the examples; needs no tokenizer."""
        return prepare_splits(config, cache)

    def ids(self, items: "Sequence[Example]") -> list[str]:
        """Return the examples' own ids."""
        return [pair.id for pair in items]

    def encoder(self, tokenizer: "PreTrainedTokenizerBase", config: Config, counts: Mapping[str, int]) -> "Encoder":
        """Return the encoder of examples, which truncates to `train.max_length` tokens."""
        from medqa_finetune.data.encode import Encoder

        return Encoder(tokenizer, config.train.max_length, form_of(config.model, counts))

    def prepare_model(self, model: "Model", encoder: "Encoder", settings: EvaluateConfig) -> None:
        """Add the token that the chat template puts after an answer to those of the model's files."""
        from medqa_finetune.evaluation.fixed_shapes import check_graphs
        from medqa_finetune.model.stop_tokens import end_answers

        if settings.cuda_graphs:
            check_graphs(model)
        end_answers(model, encoder.tokenizer, encoder.end_ids[-1])

    def training_sets(self, encoder: "Encoder", splits: Splits["ExampleTable"], config: Config) -> "TrainingSets":
        """Tokenize the examples, or load their tokens from the cache."""
        from medqa_finetune.data.token_sets import encode_once
        from medqa_finetune.training.fit import TrainingSets

        cache = Path(config.outputs) / CACHE_NAME
        return TrainingSets(*(encode_once(encoder, part, cache) for part in (splits.train, splits.validation)))

    def sample(self, encoder: "Encoder", splits: Splits["ExampleTable"], size: int) -> "EncodedSet":
        """Tokenize a few examples."""
        from medqa_finetune.data.token_sets import EncodedSet

        return EncodedSet(encoder.encode(splits.validation[:size]))

    def predict(
        self, model: "Model", encoder: "Encoder", items: "Sequence[Example]", config: Config, folder: EvaluationDir
    ) -> Costs:
        """Generate a prediction for every question."""
        from medqa_finetune.evaluation.backends import generator_of

        return generator_of(config.evaluate)(model, encoder, items, config.evaluate, folder).speed()

    def score(self, items: "Sequence[Example]", config: Config, folder: EvaluationDir) -> EvaluationRecord:
        """Compare the predictions with their references."""
        from medqa_finetune.evaluation.predictions import read_predictions
        from medqa_finetune.evaluation.score import item_scores, score_predictions

        answers = read_predictions(folder.predictions_path)
        if sorted(answer.id for answer in answers) != sorted(pair.id for pair in items):
            problem = f"{len(answers)} answers for {len(items)} questions"
            raise RunError(Fault("answers-missing", problem, file=str(folder.predictions_path)))
        scored, rows = score_predictions(answers, config.evaluate.metrics)
        folder.write_item_scores(item_scores(rows, sha256_of(folder.predictions_path)))
        return scored


class Modelling(Task["Blocks", "Encoded", "Ready"]):
    """Causal language modelling of running text; the evaluation measures the perplexity of the test part."""

    generates = False

    def look(self, config: Config) -> Mapping[str, int]:
        """Read the text, without cutting it into blocks."""
        from medqa_finetune.data.text import read_text_parts

        return read_text_parts(config).counts

    def prepare(self, config: Config, model: Path, cache: Path) -> Splits["Blocks"]:
        """Read the text and cut it into blocks of tokens, which needs the model's tokenizer."""
        from medqa_finetune.data.text import read_text_parts

        # Faults of the text are raised before torch is loaded.
        parts = read_text_parts(config)
        settle_before_torch()
        from medqa_finetune.data.blocks import prepare_blocks
        from medqa_finetune.model.load import load_tokenizer

        return prepare_blocks(config, parts, load_tokenizer(model, chat=False), cache)

    def ids(self, items: "Sequence[Encoded]") -> list[str]:
        """Return the blocks' numbers, `block-0` and so on."""
        return [f"block-{number}" for number in range(len(items))]

    def encoder(self, tokenizer: "PreTrainedTokenizerBase", config: Config, counts: Mapping[str, int]) -> "Ready":
        """Return an encoder that passes blocks through, since they are tokens already."""
        from medqa_finetune.data.blocks import Ready

        return Ready()

    def training_sets(self, encoder: "Ready", splits: Splits["Blocks"], config: Config) -> "TrainingSets":
        """Return the blocks of training and validation."""
        from medqa_finetune.training.fit import TrainingSets

        return TrainingSets(splits.train.encoded, splits.validation.encoded)

    def sample(self, encoder: "Ready", splits: Splits["Blocks"], size: int) -> "EncodedSet":
        """Return a few blocks."""
        from medqa_finetune.data.token_sets import EncodedSet

        blocks = splits.validation.encoded
        return EncodedSet(blocks.encoded(number) for number in range(min(size, len(blocks))))

    def predict(
        self, model: "Model", encoder: "Ready", items: "Sequence[Encoded]", config: Config, folder: EvaluationDir
    ) -> Costs:
        """Measure the likelihood of every block."""
        from medqa_finetune.evaluation.text_likelihood import measure_blocks

        return measure_blocks(model, items, config.evaluate, folder)

    def score(self, items: "Sequence[Encoded]", config: Config, folder: EvaluationDir) -> EvaluationRecord:
        """Compute the perplexity over all blocks."""
        from medqa_finetune.evaluation.score import item_scores
        from medqa_finetune.evaluation.text_perplexity import score_blocks, text_signature

        signature = text_signature(config.train.max_length, config.evaluate.stride, config.corpus.separator)
        scored, rows = score_blocks(folder.read_predictions(), signature, folder.predictions_path)
        if scored.n != len(items):
            problem = f"{scored.n} blocks of {len(items)}"
            raise RunError(Fault("blocks-missing", problem, file=str(folder.predictions_path)))
        folder.write_item_scores(item_scores(rows, sha256_of(folder.predictions_path)))
        return scored


TASKS: dict[str, Task[Any, Any, Any]] = {"qa": Answering(), "text": Modelling()}


def task_of(config: Config) -> Task[Any, Any, Any]:
    """Return the task that `corpus.task` names."""
    return TASKS[config.corpus.task]
