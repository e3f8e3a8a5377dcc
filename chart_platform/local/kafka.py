"""The process that keeps Kafka: starts the embedded broker or checks the external one, and makes the topics.

Belongs here: nothing but that. Does not belong here: how a broker or topic is made (``stream``).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType

from chart_platform.local.instance import Files
from chart_platform.settings import get_settings
from chart_platform.stream.broker import BrokerError, BrokerUnreachable, ensure_broker
from chart_platform.stream.jars import JarsUnavailable
from chart_platform.stream.topics import TopicContradiction, TopicMissing, ensure_topics


def _leave(_number: int, _frame: FrameType | None) -> None:
    # An exception and no flag, so that a start that takes long (a download) is given up at once. Only one, so that
    # the orderly stop is not cut short by the next.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


def main() -> int:
    signal.signal(signal.SIGTERM, _leave)
    settings = get_settings()
    ready = Files(settings).ready("kafka")
    try:
        # In this process, because the broker is to die with the thread that starts it, and may take its time.
        with ensure_broker(settings, die_with_parent=True) as broker:
            ensure_topics(settings)
            ready.write_text(str(os.getpid()))
            while broker is None or broker.running():
                time.sleep(0.5)
    except (BrokerError, BrokerUnreachable, JarsUnavailable, TopicContradiction, TopicMissing) as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    print(f"Kafka of {settings.root} has ended; its log is {broker.log_file}.", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
