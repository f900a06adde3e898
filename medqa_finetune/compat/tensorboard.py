"""TensorBoard: a row of its HPARAMS table, without torch and TensorFlow.

The table's format is TensorBoard's own (`tensorboard.plugins.hparams`); the functions of its documented module want
TensorFlow to write, and torch's `add_hparams` writes booleans as numbers and gives every run a row of its own.
"""

import time
from collections.abc import Mapping
from pathlib import Path


def write_row(
    folder: Path, group: str, settings: Mapping[str, str | bool | float], results: Mapping[str, float], step: int
) -> None:
    """Write a file of events with one row of the HPARAMS table, in place of earlier ones in the folder.

    TensorBoard finds names, types and ranges of the columns from all rows itself, the results from all scalars in their
    folders. Of several files in a folder it would take the settings of the first.

    Args:
        folder: Folder of the row's files.
        group: Rows of one group are shown as one, with the means of their results and the settings of the first.
        settings: Columns that describe the row.
        results: Columns that were measured, by tag.
        step: Step of the results.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import plugin_data_pb2 as hparams
    from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
    from tensorboard.plugins.hparams.metadata import (
        NULL_TENSOR,
        SESSION_END_INFO_TAG,
        SESSION_START_INFO_TAG,
        create_summary_metadata,
    )
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    now = time.time()
    begun = hparams.SessionStartInfo(group_name=group, start_time_secs=now)
    for key, value in settings.items():
        if isinstance(value, bool):
            begun.hparams[key].bool_value = value
        elif isinstance(value, str):
            begun.hparams[key].string_value = value
        else:
            begun.hparams[key].number_value = value
    ended = hparams.SessionEndInfo(status=STATUS_SUCCESS, end_time_secs=now)
    said = {
        SESSION_START_INFO_TAG: hparams.HParamsPluginData(session_start_info=begun),
        SESSION_END_INFO_TAG: hparams.HParamsPluginData(session_end_info=ended),
    }
    values = [
        *(
            Summary.Value(tag=tag, metadata=create_summary_metadata(content), tensor=NULL_TENSOR)
            for tag, content in said.items()
        ),
        *(Summary.Value(tag=tag, simple_value=value) for tag, value in results.items()),
    ]
    earlier = list(folder.glob("events.out.tfevents.*"))
    writer = EventFileWriter(str(folder))
    try:
        writer.add_event(Event(wall_time=now, step=step, summary=Summary(value=values)))
    finally:
        writer.close()
    for path in earlier:
        path.unlink()
