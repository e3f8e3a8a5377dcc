"""JSON to Arrow through Python dicts, for the contenders that use it."""

from __future__ import annotations

from datetime import datetime

import orjson
import pyarrow as pa

from bench.contenders.common import EVENT, TIMES, Part, with_kafka

_PARSED = pa.schema([(f.name, pa.timestamp("us", "UTC")) if f.name in TIMES else f for f in EVENT])


def decode(part: Part) -> pa.Table:
    """Parse each message, read its times, build one table."""
    parse = datetime.fromisoformat
    events = [orjson.loads(value) for value in part.values]
    for event in events:
        event["ts"] = parse(event["ts"])
        if (sent_at := event.get("sent_at")) is not None:
            event["sent_at"] = parse(sent_at)
        if (chart := event.get("chart")) and (value := chart.get("control_value")) is not None:
            # The contract allows text, numbers and booleans here; the column is text.
            chart["control_value"] = value if isinstance(value, str) else orjson.dumps(value).decode()
    return with_kafka(pa.Table.from_pylist(events, schema=_PARSED), part)
