"""Stages that differ between fine-tuning on questions with answers and causal language modelling of running text.

An experiment is the same for both; each stage that differs is one method here, chosen by `corpus.task`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from medqa_finetune.config.schema import Config
from medqa_finetune.data.prepare import CACHE_NAME, Splits, prepare_splits
from medqa_finetune.errors import Fault, RunError
from medqa_finetune.record.evaluation_dir import EvaluationDir
from medqa_finetune.record.files import sha256_of
from medqa_finetune.record.schema import EvaluationRecord
from medqa_finetune.runtime import limit_spinning

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from medqa_finetune.data.blocks import Blocks, Ready
    from medqa_finetune.data.examples import Encoded, Example
    from medqa_finetune.data.tables import ExampleTable
    from medqa_finetune.data.tokenize import Encoder
    from medqa_finetune.evaluation.decode import Model
    from medqa_finetune.training.fit import TrainingSets

# Modules that load torch or read data are imported where they are used: bad input is refused before that.

# The sets of a task, their items, and what encodes these.
Items = TypeVar("Items", bound=Sequence[Any])
Item = TypeVar("Item")
ItemEncoder = TypeVar("ItemEncoder")
# Fields of an evaluation record that speak of cost; None where nothing was measured.
Costs = dict[str, Any]


class Task(ABC, Generic[Items, Item, ItemEncoder]):
    """One thing that can be learnt.

    Attributes:
        generates: Whether the model is evaluated by what it generates.
    """

    generates: bool

    @abstractmethod
    def look(self, config: Config) -> Mapping[str, int]:
        """Look at the corpus without a model, and return what was counted; what can be kept of that is in the cache.

        Raises:
            DataError: the corpus cannot be used, or has less than is asked for, as far as that shows without a model.
        """

    @abstractmethod
    def prepare(self, config: Config, model: Path, cache: Path) -> Splits[Items]:
        """Return the training, validation and test set.

        Args:
            config: The experiment.
            model: Folder of the model's files.
            cache: Folder that keeps prepared data.

        Raises:
            MedQAError: the corpus cannot be used, or has less than is asked for.
        """

    @abstractmethod
    def ids(self, items: Sequence[Item]) -> list[str]:
        """Return how items of the test set are called in `predictions.jsonl`."""

    @abstractmethod
    def encoder(self, tokenizer: "PreTrainedTokenizerBase", config: Config) -> ItemEncoder:
        """Return what turns items of the sets into ids: `encode(items)` yields them as `Encoded`."""

    @abstractmethod
    def training_sets(self, encoder: ItemEncoder, splits: Splits[Items], config: Config) -> "TrainingSets":
        """Return what is trained and validated on, encoded."""

    @abstractmethod
    def predict(
        self, model: "Model", encoder: ItemEncoder, items: Sequence[Item], config: Config, folder: EvaluationDir
    ) -> Costs:
        """Write what a model predicts for items of the test set to `folder.predictions_path`.

        Resumes from existing predictions; may modify the model in place.

        Returns:
            The fields of an evaluation record that speak of cost.
        """

    @abstractmethod
    def score(self, items: Sequence[Item], config: Config, folder: EvaluationDir) -> EvaluationRecord:
        """Return the scores of what is in `folder.predictions_path`, without costs; those of each item are kept.

        Raises:
            RunError: it is not as much as there are items.
        """


class Answering(Task["ExampleTable", "Example", "Encoder"]):
    """Questions are answered; the answers are compared with references."""

    generates = True

    def look(self, config: Config) -> Mapping[str, int]:
        """Prepare the pairs."""
        return prepare_splits(config, Path(config.outputs) / CACHE_NAME).manifest.counts

    def prepare(self, config: Config, model: Path, cache: Path) -> Splits["ExampleTable"]:
        """Read, clean and divide the pairs."""
        return prepare_splits(config, cache)

    def ids(self, items: "Sequence[Example]") -> list[str]:
        """Return the pairs' own ids."""
        return [pair.id for pair in items]

    def encoder(self, tokenizer: "PreTrainedTokenizerBase", config: Config) -> "Encoder":
        """Return the encoder of pairs."""
        from medqa_finetune.data.tokenize import Encoder

        return Encoder(tokenizer, config.train.max_length)

    def training_sets(self, encoder: "Encoder", splits: Splits["ExampleTable"], config: Config) -> "TrainingSets":
        """Tokenize the pairs, or take them from the cache."""
        from medqa_finetune.data.token_sets import encode_once
        from medqa_finetune.training.fit import TrainingSets

        cache = Path(config.outputs) / CACHE_NAME
        return TrainingSets(*(encode_once(encoder, part, cache) for part in (splits.train, splits.validation)))

    def predict(
        self, model: "Model", encoder: "Encoder", items: "Sequence[Example]", config: Config, folder: EvaluationDir
    ) -> Costs:
        """Let the model answer."""
        from medqa_finetune.evaluation.backends import generator_of

        return generator_of(config.evaluate)(model, encoder, items, config.evaluate, folder).speed()

    def score(self, items: "Sequence[Example]", config: Config, folder: EvaluationDir) -> EvaluationRecord:
        """Compare the answers with their references."""
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
    """Causal language modelling of running text; the perplexity of the test part is measured."""

    generates = False

    def look(self, config: Config) -> Mapping[str, int]:
        """Read the text."""
        from medqa_finetune.data.text import read_text_parts

        return read_text_parts(config).counts

    def prepare(self, config: Config, model: Path, cache: Path) -> Splits["Blocks"]:
        """Read the text and cut it into blocks of tokens, for which the model's tokenizer is needed."""
        from medqa_finetune.data.text import read_text_parts

        # What is wrong with the text is said before torch is loaded.
        parts = read_text_parts(config)
        limit_spinning()
        from medqa_finetune.data.blocks import prepare_blocks
        from medqa_finetune.model.load import load_tokenizer

        return prepare_blocks(config, parts, load_tokenizer(model, chat=False), cache)

    def ids(self, items: "Sequence[Encoded]") -> list[str]:
        """Return the numbers of the blocks."""
        return [f"block-{number}" for number in range(len(items))]

    def encoder(self, tokenizer: "PreTrainedTokenizerBase", config: Config) -> "Ready":
        """Return an encoder that has nothing left to do."""
        from medqa_finetune.data.blocks import Ready

        return Ready()

    def training_sets(self, encoder: "Ready", splits: Splits["Blocks"], config: Config) -> "TrainingSets":
        """Return the blocks."""
        from medqa_finetune.training.fit import TrainingSets

        return TrainingSets(splits.train.encoded, splits.validation.encoded)

    def predict(
        self, model: "Model", encoder: "Ready", items: "Sequence[Encoded]", config: Config, folder: EvaluationDir
    ) -> Costs:
        """Measure how likely the blocks are to the model."""
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
    """Return the task of an experiment."""
    return TASKS[config.corpus.task]
