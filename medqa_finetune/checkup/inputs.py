"""Whether the model and the corpus that a command line names are here."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medqa_finetune.checkup.hubs import MODELSCOPE, download_hint, endpoint, offline_by
from medqa_finetune.checkup.result import Check, State, judged
from medqa_finetune.config.schema import Config, CorpusConfig, ModelConfig
from medqa_finetune.errors import Fault, ModelError, distinct, noting
from medqa_finetune.languages.translate import say
from medqa_finetune.memory import in_units


def check_model(model: ModelConfig, reached: Mapping[str, float | None]) -> Check:
    """Look for a model's files, as a run does, and for cut or damaged ones.

    Args:
        model: The model.
        reached: The hubs' addresses, with the seconds to their answer.
    """
    from medqa_finetune.model.locate import locate_model

    try:
        folder = locate_model(model)
    except ModelError as error:
        if model.repository is None or [fault.code for fault in error.faults] != ["model-missing"]:
            raise
        hint = download_hint(f"model={model.name}", "huggingface", reached)
        raise ModelError(error.faults[0].but(hint=hint)) from None
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    facts = {"model": model.name, "folder": str(folder), "weight_bytes": size}
    line = say("{model}, {size} of weights: {folder}", model=model.name, size=in_units(size), folder=shortened(folder))
    return Check("model", State.OK, line, facts)


def check_corpus(corpus: CorpusConfig, reached: Mapping[str, float | None]) -> Check:
    """Look for a corpus's files; one of a hub may be missing while a hub answers.

    Args:
        corpus: The corpus.
        reached: The hubs' addresses, with the seconds to their answer.
    """
    from medqa_finetune.data.corpus import corpus_files
    from medqa_finetune.data.hub import hub_folder, is_complete, missing_files

    facts = {"corpus": corpus.name, "source": corpus.source, "present": True}
    if corpus.source == "embedded":
        return Check("corpus", State.OK, say("{corpus} ships with the package", corpus=corpus.name), facts)
    if corpus.source == "hub":
        folder = hub_folder(corpus)
        if not is_complete(corpus, folder) and missing_files(corpus, folder):
            facts |= {"present": False, "folder": str(folder), "repository": corpus.repository, "hub": corpus.hub}
            return _not_here(corpus, folder, reached, facts)
    files = corpus_files(corpus)
    size = sum(path.stat().st_size for path, _ in files)
    facts |= {"files": [str(path) for path, _ in files], "bytes": size}
    values = {"corpus": corpus.name, "size": in_units(size), "folder": shortened(files[0][0])}
    one, several = "{corpus}, {size}: {folder}", "{corpus}, {count} files, {size}: {folder}"
    line = say(one, **values) if len(files) == 1 else say(several, count=len(files), **values)
    return Check("corpus", State.OK, line, facts)


def _not_here(
    corpus: CorpusConfig, folder: Path, reached: Mapping[str, float | None], facts: dict[str, object]
) -> Check:
    address = MODELSCOPE if corpus.hub == "modelscope" else endpoint()
    if reached.get(address) is not None:
        values = {"corpus": corpus.name, "hub": corpus.hub, "folder": folder}
        line = say("{corpus} is not here yet; the first run fetches it from {hub} to {folder}", **values)
        return Check("corpus", State.OK, line, facts)
    hint = download_hint(f"corpus={corpus.name}", corpus.hub, reached)
    problem = f"is not in {folder}, and cannot be fetched: {address} does not answer"
    if (variable := offline_by()) is not None:
        problem = f"is not in {folder}, and {variable} forbids to fetch it"
        hint = f"Unset it: unset {variable}. {hint}"
    fault = Fault("corpus-missing", problem, key="corpus", got=corpus.name, hint=hint)
    return Check("corpus", State.PROBLEM, facts=facts, faults=[fault])


def check_extras(cells: Sequence[Config]) -> Check:
    """Look for the optional packages that the settings need."""
    from medqa_finetune.preflight import check_packages

    faults: list[Fault] = []
    for cell in cells:
        with noting(faults):
            check_packages(cell)
    return judged("extras", "", {}, distinct(faults), State.PROBLEM)


def shortened(path: Path) -> str:
    """Return a path below the home folder as `~/…`."""
    home = str(Path.home())
    return f"~{str(path).removeprefix(home)}" if home != "/" and str(path).startswith(f"{home}/") else str(path)
