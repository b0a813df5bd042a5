"""A process that starts runs and delivers their events until it is killed: the part of a server that a crash test needs.

    python delivering_server.py DATABASE RUNS

Prints the id of each run once all of its changes are durable.
"""

from __future__ import annotations

import signal
import sys
import time

import structlog
from event_world import REGION, World

from databases import open_url
from runomics.domain.run import Admitted, advance
from runomics.events.outbox import Outbox
from runomics.events.webhook import WebhookSink


class RealClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    world = World(open_url(sys.argv[1]))
    clock = RealClock()
    outbox = Outbox(
        queues=world.queues,
        sink_of=lambda hook: WebhookSink(hook, region=REGION, now_ms=clock.now_ms, timeout_seconds=5.0),
        clock=clock,
    )
    world.time_ms = clock.now_ms()
    outbox.start()
    for _ in range(int(sys.argv[2])):
        run = world.start_run()
        world.cancel(world.move(run, advance(run.state, Admitted())))
        print(run.id, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
