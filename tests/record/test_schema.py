import dataclasses
import typing

from medqa_finetune.record import schema
from medqa_finetune.record.schema import Record, Status

DESIGN = {
    "Record": "schema_version name identity status failure config method data model seed data_manifest parameters "
    "train evaluation evaluation_name evaluation_defaults environment started finished",
    "TrainRecord": "samples tokens answer_tokens steps epochs seconds samples_per_second tokens_per_second "
    "model_flops_utilization peak_vram_bytes peak_vram_reserved_bytes peak_rss_bytes final_train_loss "
    "best_validation_loss resumed_from",
    "EvaluationRecord": "n scores seconds samples_per_second tokens_per_second empty_rate truncated_rate "
    "repetition_rate",
    "Evaluation": "schema_version name identity status failure settings reused result exams environment files started "
    "finished",
    "Reused": "evaluation answers",
    "Environment": "versions device precision commit command",
    "Parameters": "total trainable",
    "DataManifest": "corpus_sha256 train validation test",
    "SetManifest": "n sha256",
    "Failure": "kind message",
    "Score": "value signature",
}


UNMEASURED = ("peak_", "samples_per", "tokens_per", "final_", "best_", "flops", "model_flops", "matrix_", "datasheet_")


def test_every_field_that_the_design_promises_is_there() -> None:
    for name, wanted in DESIGN.items():
        found = {field.name for field in dataclasses.fields(getattr(schema, name))}
        assert set(wanted.split()) <= found, name


def test_what_was_not_measured_is_none() -> None:
    empty = Record("a", "i", "pending", "lora", "20k", "tiny", 0, {})
    assert [empty.failure, empty.train, empty.evaluation, empty.parameters, empty.finished] == [None] * 5
    for kind in (schema.TrainRecord, schema.EvaluationRecord):
        for field in dataclasses.fields(kind):
            if field.name.startswith(UNMEASURED):
                assert field.default is None, field.name


def test_statuses() -> None:
    wanted = "pending running trained evaluated done failed interrupted"
    assert set(typing.get_args(Status)) == set(wanted.split())
