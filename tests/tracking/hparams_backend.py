"""Reads event files as TensorBoard's HPARAMS does, by its own backend."""

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing import data_provider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.list_session_groups import Handler


def rows_of(outputs: Path) -> tuple[list[Any], Any]:
    """Return the rows that TensorBoard's backend makes of a folder, and its description of the columns."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(outputs))
    multiplexer.Reload()
    context = Context(TBContext(data_provider=data_provider.MultiplexerDataProvider(multiplexer, str(outputs))))
    known = context.hparams_metadata(RequestContext(), "")
    columns = context.experiment_from_metadata(RequestContext(), "", True, known, [])
    done, mean = api_pb2.STATUS_SUCCESS, api_pb2.AGGREGATION_AVG
    request = api_pb2.ListSessionGroupsRequest(slice_size=100, allowed_statuses=[done], aggregation_type=mean)
    request.col_params.extend(api_pb2.ColParams(hparam=info.name) for info in columns.hparam_infos)
    return list(Handler(RequestContext(), context, "", request).run().session_groups), columns


def metric(group: Any, tag: str) -> float:
    (value,) = [each.value for each in group.metric_values if each.name.tag == tag]
    return float(value)
