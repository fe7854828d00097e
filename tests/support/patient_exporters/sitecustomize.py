"""Python runs this first in each process whose PYTHONPATH has this folder: a collector of traces that a busy machine
keeps from answering loses no span. In production a late one does, so that nobody waits for it."""

import dataclasses

from sources.outgoing import trace_collector
from tracing import recorder

PATIENCE_S = 120.0

trace_collector.LIMITS = dataclasses.replace(
    trace_collector.LIMITS, connect_s=PATIENCE_S, read_s=PATIENCE_S, answer_s=PATIENCE_S
)
recorder.END_WITHIN_S = PATIENCE_S
