"""The outbox's threads: one deals new events into the queues of the webhooks, one for each webhook delivers. Server process.

Everything that must last is in the queues: a server that dies sends again what was not yet noted as taken, and forgets nothing.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from runomics.domain.backoff import delay_ms
from runomics.domain.event import StatusEvent, Webhook
from runomics.ports import Clock, EventQueues, EventSink, NotTaken

log = structlog.get_logger()

LANES = 8
"""Events that one webhook is sent at once, each of another resource."""
AT_ONCE = 200
"""Events that one round sends."""
LOOK_SECONDS = 0.25
"""How often new events are looked for while there is a webhook."""
LOOK_FOR_WEBHOOKS_SECONDS = 2.0
"""How often a new webhook is looked for while there is none."""
IDLE_SECONDS = 60.0
STOP_SECONDS = 1.0
"""How long a stop waits for answers that are under way; what they would have said is asked again by the next server."""
FIRST_DELAY_MS = 1_000
MOST_DELAY_MS = 300_000
"""Between attempts for one resource that the webhook refuses."""
MOST_DOWN_MS = 60_000
"""Between attempts to reach a webhook that is down."""


class Outbox:
    """`sink_of` makes what sends to a webhook. Nothing runs before `start`."""

    def __init__(self, *, queues: EventQueues, sink_of: Callable[[Webhook], EventSink], clock: Clock) -> None:
        self._queues = queues
        self._sink_of = sink_of
        self._clock = clock
        self._couriers: dict[int, _CourierThread] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the threads. An answer that does not come soon is not waited for."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        couriers, self._couriers = list(self._couriers.values()), {}
        for courier in couriers:
            courier.ask_to_stop()
        for courier in couriers:
            courier.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            pause = LOOK_SECONDS
            try:
                if not self._look():
                    pause = LOOK_FOR_WEBHOOKS_SECONDS
            except Exception:
                log.exception("events.dealing_failed")
            self._stopping.wait(pause)

    def _look(self) -> bool:
        """Follow what the operator changed and deal what is new; whether there is any webhook."""
        webhooks = {webhook.id: webhook for webhook in self._queues.webhooks()}
        for gone in self._couriers.keys() - webhooks.keys():
            self._couriers.pop(gone).ask_to_stop()
        for new in webhooks.keys() - self._couriers.keys():
            courier = Courier(webhooks[new], queues=self._queues, sink=self._sink_of(webhooks[new]), clock=self._clock)
            self._couriers[new] = _CourierThread(courier)
        if not webhooks:
            return False
        while not self._stopping.is_set() and self._queues.deal():
            for thread in self._couriers.values():
                thread.wake()
        return True


@dataclass(frozen=True, slots=True)
class _Answer:
    """How one delivery ended; `refusal` None: taken."""

    event: StatusEvent
    refusal: NotTaken | None


class Courier:
    """Delivers to one webhook, round by round. Of each resource a round sends the first event that was not taken.

    A webhook that is down is asked again after 1, 2, 4 … 60 seconds, with few events. A resource whose event is refused waits
    the same way, up to 5 minutes, and the others go on.
    """

    def __init__(self, webhook: Webhook, *, queues: EventQueues, sink: EventSink, clock: Clock) -> None:
        self.webhook = webhook
        self._queues = queues
        self._sink = sink
        self._clock = clock
        self._failures = 0
        self._down_until_ms = 0
        self._is_noted = webhook.failure is not None

    def deliver(self) -> int | None:
        """One round; in how many ms the next one is worth while, None when nothing waits."""
        now_ms = self._clock.now_ms()
        if now_ms < self._down_until_ms:
            return self._down_until_ms - now_ms
        due = self._queues.due(self.webhook.id, now_ms, LANES if self._failures else AT_ONCE)
        if not due:
            next_ms = self._queues.next_due_ms(self.webhook.id)
            return None if next_ms is None else max(1, next_ms - now_ms)
        taken, refusals = self._send(due)
        self._judge(taken, refusals)
        return 0

    def close(self) -> None:
        self._sink.close()

    # ---- pieces --------------------------------------------------------------------------------------------------

    def _send(self, due: Sequence[StatusEvent]) -> tuple[int, list[NotTaken]]:
        """Send on as many lanes as there is work for, and note answers as they come; how many took, and why others did not."""
        waiting = deque(due)
        answers: queue.SimpleQueue[_Answer | None] = queue.SimpleQueue()
        is_down = threading.Event()
        lanes = min(LANES, len(due))
        for number in range(lanes):
            threading.Thread(
                target=self._lane,
                args=(waiting, answers, is_down),
                name=f"webhook-{self.webhook.id}-{number}",
                daemon=True,
            ).start()
        taken, refusals = 0, []
        while lanes:
            come = [answers.get()]
            while not answers.empty():
                come.append(answers.get())
            lanes -= come.count(None)
            settled = [answer for answer in come if answer is not None]
            self._settle(settled)
            taken += sum(answer.refusal is None for answer in settled)
            refusals += [answer.refusal for answer in settled if answer.refusal is not None]
        return taken, refusals

    def _lane(
        self, waiting: deque[StatusEvent], answers: queue.SimpleQueue[_Answer | None], is_down: threading.Event
    ) -> None:
        try:
            while not is_down.is_set():
                try:
                    event = waiting.popleft()
                except IndexError:
                    return
                answer = self._asked(event)
                if answer.refusal is not None and answer.refusal.is_down:
                    is_down.set()
                answers.put(answer)
        finally:
            answers.put(None)

    def _asked(self, event: StatusEvent) -> _Answer:
        try:
            self._sink.deliver(event)
        except NotTaken as refusal:
            return _Answer(event, refusal)
        except Exception as error:
            log.exception("events.delivery_broke", webhook=self.webhook.id, kind=event.kind, id=event.resource_id)
            return _Answer(event, NotTaken(f"could not be sent: {type(error).__name__}", is_down=False))
        return _Answer(event, None)

    def _settle(self, answers: Sequence[_Answer]) -> None:
        """Take what was taken off the queue. Who refused one event is asked for its resource later; who is down, for all."""
        now_ms = self._clock.now_ms()
        taken = [answer.event.id for answer in answers if answer.refusal is None]
        held = [
            (answer.event, now_ms + delay_ms(answer.event.tries + 1, first_ms=FIRST_DELAY_MS, most_ms=MOST_DELAY_MS))
            for answer in answers
            if answer.refusal is not None and not answer.refusal.is_down
        ]
        if taken or held:
            self._queues.settle(self.webhook.id, taken=taken, held=held)

    def _judge(self, taken: int, refusals: Sequence[NotTaken]) -> None:
        """Whether the webhook is down: nobody answered, or several events were refused and none was taken."""
        now_ms = self._clock.now_ms()
        down = [refusal for refusal in refusals if refusal.is_down]
        if down or (len(refusals) > 1 and not taken):
            self._failures += 1
            asked_for_ms = max((refusal.again_ms or 0 for refusal in down), default=0)
            wait_ms = max(asked_for_ms, delay_ms(self._failures, first_ms=FIRST_DELAY_MS, most_ms=MOST_DOWN_MS))
            self._down_until_ms = now_ms + wait_ms
            log.warning(
                "events.webhook_down",
                webhook=self.webhook.id,
                why=str((down or refusals)[0]),
                failures=self._failures,
                again_in_ms=wait_ms,
            )
        elif taken:
            self._failures = 0
        self._note(refusals, now_ms)

    def _note(self, refusals: Sequence[NotTaken], now_ms: int) -> None:
        if refusals:
            self._queues.note(self.webhook.id, str(refusals[0]), now_ms)
        elif self._is_noted:
            self._queues.note(self.webhook.id, None, now_ms)
        self._is_noted = bool(refusals)


class _CourierThread:
    """Calls a courier whenever something is due, until it is asked to stop."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"webhook-{courier.webhook.id}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._woken.set()

    def ask_to_stop(self) -> None:
        self._stopping.set()
        self._woken.set()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                wait_ms = self._courier.deliver()
            except Exception:
                if self._stopping.is_set():
                    break
                log.exception("events.courier_failed", webhook=self._courier.webhook.id)
                wait_ms = FIRST_DELAY_MS
            if not self._stopping.is_set() and wait_ms != 0:
                self._woken.wait(IDLE_SECONDS if wait_ms is None else wait_ms / 1000)
        self._courier.close()
