"""From a change of status to its receivers: at least once, in order for each resource, whoever is down and for however long."""

from __future__ import annotations

import re
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from event_world import ACCOUNT, NOW_MS, OTHER, World
from receiver import Receiver

from runomics.domain.event import Topic, Webhook
from runomics.domain.run import Admitted, advance
from runomics.events.outbox import AT_ONCE, LANES, MOST_DELAY_MS, MOST_DOWN_MS, Outbox
from runomics.events.webhook import WebhookSink
from runomics.store import events, webhooks

RUNS = frozenset({Topic.RUN})


def told(receiver: Receiver) -> dict[str, list[str]]:
    """Run → the statuses its receiver took, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for document in receiver.taken:
        found[document["detail"]["runId"]].append(document["detail"]["status"])
    return dict(found)


def live_through(world: World, deliver: Callable[[], Any], hours: float) -> int:
    """Deliver whenever it is worth while, until so many hours have passed; how many attempts that were."""
    end_ms = world.time_ms + int(hours * 3_600_000)
    attempts = 0
    while world.time_ms < end_ms:
        wait_ms = deliver()
        attempts += 1
        world.time_ms = min(end_ms, world.time_ms + (wait_ms or 1_000))
    return attempts


def test_every_change_of_a_run_comes_in_order_with_what_its_row_knows(world: World, receiver: Receiver) -> None:
    hook = world.add_webhook(receiver.url)
    run = world.start_run()
    run = world.move(run, advance(run.state, Admitted()))
    assert world.deliver(hook) is None
    assert [document["detail"] for document in receiver.taken] == [
        {
            "omicsVersion": "1.0.0",
            "arn": f"arn:aws:omics:eu-central-1:{ACCOUNT}:run/{run.id}",
            "status": status,
            "uuid": run.uuid,
            "runId": str(run.id),
            "runName": "sample",
            "runOutputUri": f"s3://bucket/out/{run.id}",
            "workflowId": "1234567",
            "workflowName": "align",
        }
        for status in ("PENDING", "STARTING")
    ]
    assert (world.waiting(hook), world.store.read(lambda tx: events.undelivered(tx, 10))) == (0, [])


def test_a_run_that_is_gone_before_anybody_looked_is_told_whole(world: World, receiver: Receiver) -> None:
    hook = world.add_webhook(receiver.url)
    run = world.start_run(name=None)
    world.submit_task(run)
    world.delete(world.cancel(run))
    world.deliver(hook)
    assert [(sent["detail-type"], sent["detail"]["status"]) for sent in receiver.taken if "uuid" in sent["detail"]] == [
        ("Run Status Change", "PENDING"),
        ("Run Status Change", "CANCELLED"),
        ("Run Status Change", "DELETED"),
    ]
    assert {sent["detail"]["workflowName"] for sent in receiver.taken} == {"align"}
    assert {sent["detail"].get("runName") for sent in receiver.taken} == {None}
    (task,) = [sent for sent in receiver.taken if sent["detail-type"] == "Task Status Change"]
    assert (task["detail"]["runUuid"], task["detail"]["runId"]) == (run.uuid, str(run.id))


def test_each_webhook_is_told_what_it_asked_for(world: World, new_receiver: Callable[[], Receiver]) -> None:
    world.start_run()
    world.deal()
    world.time_ms += 1
    everything, of_other, tasks_only = new_receiver(), new_receiver(), new_receiver()
    hooks = [
        world.add_webhook(everything.url),
        world.add_webhook(of_other.url, account=OTHER),
        world.add_webhook(tasks_only.url, topics=frozenset({Topic.TASK})),
    ]
    mine, theirs = world.start_run(), world.start_run(account=OTHER)
    task = world.submit_task(mine)
    for hook in hooks:
        world.deliver(hook)

    def resources(receiver: Receiver) -> list[str]:
        return sorted(document["resources"][0].rpartition(":")[2] for document in receiver.taken)

    assert resources(everything) == [f"run/{mine.id}", f"run/{theirs.id}", f"task/{task}"]
    assert resources(of_other) == [f"run/{theirs.id}"]
    assert resources(tasks_only) == [f"task/{task}"]


def test_a_receiver_that_is_down_for_an_hour_misses_nothing(world: World, receiver: Receiver) -> None:
    hook = world.add_webhook(receiver.url, topics=RUNS)
    receiver.close()
    started: list[str] = []

    def go_on() -> int | None:
        if len(started) < 30:
            run = world.start_run()
            run = world.move(run, advance(run.state, Admitted()))
            world.cancel(run)
            started.append(str(run.id))
        return world.deliver(hook)

    attempts = live_through(world, go_on, hours=1)
    assert world.waiting(hook) == 90
    failure, since_ms = world.noted(hook)
    assert failure is not None
    assert failure.startswith("gave no answer: ")
    assert since_ms == NOW_MS
    assert 60 <= attempts <= 75, "an hour of attempts that are a minute apart"

    receiver.open()
    world.time_ms += MOST_DOWN_MS
    assert world.deliver(hook) is None
    assert told(receiver) == {run_id: ["PENDING", "STARTING", "STOPPING"] for run_id in started}
    assert world.noted(hook) == (None, None)


def test_a_down_receiver_is_asked_with_a_few_events_and_ever_more_seldom(world: World, receiver: Receiver) -> None:
    hook = world.add_webhook(receiver.url, topics=RUNS)
    receiver.answer = lambda document: 503
    for _ in range(100):
        world.start_run()
    waits = []
    for _ in range(9):
        before = len(receiver.sent)
        wait_ms = world.deliver(hook)
        assert wait_ms is not None
        assert 1 <= len(receiver.sent) - before <= LANES
        waits.append(wait_ms)
        world.time_ms += wait_ms
    assert waits == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]


def test_a_receiver_that_names_a_time_is_left_alone_until_then(world: World, receiver: Receiver) -> None:
    hook = world.add_webhook(receiver.url)
    receiver.answer = lambda document: 429
    receiver.answer_headers = {"Retry-After": "600"}
    world.start_run()
    assert world.deliver(hook) == 600_000
    world.time_ms += 599_999
    assert world.deliver(hook) == 1
    assert len(receiver.sent) == 1


def test_a_refused_resource_waits_alone_and_its_order_holds(world: World, receiver: Receiver) -> None:
    hook = world.add_webhook(receiver.url, topics=RUNS)
    bad = world.start_run()
    refused_while: list[bool] = [True]

    def answer(document: Any) -> int:
        return 422 if refused_while and document["detail"]["runId"] == str(bad.id) else 200

    receiver.answer = answer
    waits = []
    good = [world.start_run() for _ in range(20)]
    for _ in range(12):
        wait_ms = world.deliver(hook)
        assert wait_ms is not None
        waits.append(wait_ms)
        world.time_ms += wait_ms
        good.append(world.start_run())
        if len(waits) == 3:
            bad = world.move(bad, advance(bad.state, Admitted()))
    world.deliver(hook)
    assert waits == [1_000 << n for n in range(9)] + [MOST_DELAY_MS] * 3
    assert told(receiver) == {str(run.id): ["PENDING"] for run in good}
    failure, _ = world.noted(hook)
    assert failure == "answered 422 Unprocessable Entity"

    refused_while.clear()
    bad = world.cancel(bad)
    world.time_ms += MOST_DELAY_MS
    world.deliver(hook)
    assert told(receiver)[str(bad.id)] == ["PENDING", "STARTING", "STOPPING"]
    assert world.noted(hook) == (None, None)


def test_order_holds_when_any_answer_may_fail(world: World, receiver: Receiver) -> None:
    hook = world.add_webhook(receiver.url, topics=RUNS)
    started = []
    for _ in range(12):
        run = world.start_run()
        run = world.move(run, advance(run.state, Admitted()))
        world.cancel(run)
        started.append(str(run.id))
    counts: dict[str, int] = defaultdict(int)
    lock = threading.Lock()

    def answer(document: Any) -> int:
        """Each event fails twice, each time another way; the last time it was taken for all the sender knows."""
        with lock:
            counts[document["id"]] += 1
            count = counts[document["id"]]
        if count == 1:
            return 500 if uuid.UUID(document["id"]).int % 2 else 503
        if count == 2:
            raise ConnectionResetError
        return 200

    receiver.answer = answer
    live_through(world, lambda: world.deliver(hook), hours=2)
    assert world.waiting(hook) == 0
    assert told(receiver) == {run_id: ["PENDING", "STARTING", "STOPPING"] for run_id in started}


def test_two_events_of_one_resource_are_never_on_their_way_at_once(world: World, receiver: Receiver) -> None:
    hook = world.add_webhook(receiver.url, topics=RUNS)
    runs = [world.start_run() for _ in range(6)]
    for run in runs:
        world.cancel(world.move(run, advance(run.state, Admitted())))
    under_way: set[str] = set()
    together: list[int] = []
    meeting = threading.Barrier(6, timeout=5)
    lock = threading.Lock()

    def answer(document: Any) -> int:
        run_id = document["detail"]["runId"]
        with lock:
            assert run_id not in under_way
            under_way.add(run_id)
            together.append(len(under_way))
        meeting.wait()
        with lock:
            under_way.discard(run_id)
        return 200

    receiver.answer = answer
    world.deliver(hook)
    assert told(receiver) == {str(run.id): ["PENDING", "STARTING", "STOPPING"] for run in runs}
    assert max(together) == 6, "six resources are told at once"


def test_a_new_server_goes_on_where_the_last_one_was(world: World, receiver: Receiver) -> None:
    hook = world.add_webhook(receiver.url, topics=RUNS)
    run = world.cancel(world.start_run())
    receiver.close()
    world.deliver(hook)
    world.restart()
    receiver.open()
    world.deliver(hook)
    assert told(receiver) == {str(run.id): ["PENDING", "CANCELLED"]}


def test_a_backlog_larger_than_a_round_is_delivered_whole(world: World, receiver: Receiver) -> None:
    hook = world.add_webhook(receiver.url, topics=RUNS)
    started = [str(world.start_run().id) for _ in range(AT_ONCE + 50)]
    world.deliver(hook)
    assert told(receiver) == {run_id: ["PENDING"] for run_id in started}


def test_events_that_were_moved_into_queues_leave_the_ids_of_their_table_free(world: World, receiver: Receiver) -> None:
    """The table is empty again and again, so its ids begin anew; the queue's do not."""
    hook = world.add_webhook(receiver.url, topics=RUNS)
    receiver.close()
    run = world.start_run()
    world.deal()
    run = world.move(run, advance(run.state, Admitted()))
    world.deal()
    world.cancel(run)
    world.deal()
    receiver.open()
    world.deliver(hook)
    assert told(receiver) == {str(run.id): ["PENDING", "STARTING", "STOPPING"]}


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_dealing_looks_at_one_resource_of_a_backlog_and_never_at_all_of_it(world: World) -> None:
    for statement in (webhooks.SQL.queue_events.sql, webhooks.SQL.hold_resources.sql):
        values = dict.fromkeys(re.findall(r":(\w+)", statement), 1)
        plan = world.store.write(
            lambda tx, text=statement, given=values: [row[3] for row in tx.rows(f"explain query plan {text}", given)]
        )
        searched = [step for step in plan if "webhook_event" in step]
        assert searched == [
            "SEARCH webhook_event USING INDEX webhook_event_by_resource (webhook_id=? AND kind=? AND resource_id=?)"
        ]


def test_what_is_tried_too_long_or_for_a_webhook_that_is_gone_is_dropped(world: World, receiver: Receiver) -> None:
    kept, gone = world.add_webhook(receiver.url), world.add_webhook(receiver.url)
    old = world.start_run()
    world.deal()
    world.time_ms += 1_000
    young = world.start_run()
    world.deal()
    assert world.store.write(lambda tx: webhooks.give_up(tx, young.created_ms, 1)) == [kept.id]
    assert world.store.write(lambda tx: webhooks.give_up(tx, young.created_ms, 10)) == [gone.id]
    assert world.store.write(lambda tx: webhooks.give_up(tx, young.created_ms, 10)) == []
    assert old.created_ms < young.created_ms

    assert world.store.write(lambda tx: webhooks.drop_orphans(tx, 10)) == 0
    assert world.store.write(lambda tx: webhooks.remove_webhook(tx, gone.id))
    assert [world.store.write(lambda tx: webhooks.drop_orphans(tx, 10)) for _ in range(2)] == [1, 0]
    assert [webhook_id for webhook_id, *_ in world.queued()] == [kept.id]


# ---- threads -----------------------------------------------------------------------------------------------------


@pytest.fixture
def outbox(world: World) -> Any:
    made = Outbox(
        queues=world.queues,
        sink_of=lambda hook: WebhookSink(hook, region="us-east-1", now_ms=world.now_ms, timeout_seconds=5.0),
        clock=world,
    )
    yield made
    made.stop()


def test_a_slow_receiver_delays_no_other_and_no_stop(
    world: World, outbox: Outbox, new_receiver: Callable[[], Receiver]
) -> None:
    slow, quick = new_receiver(), new_receiver()
    release = threading.Event()
    asked = threading.Event()

    def wait(document: Any) -> int:
        asked.set()
        release.wait(20)
        return 200

    slow.answer = wait
    world.add_webhook(slow.url, topics=RUNS)
    world.add_webhook(quick.url, topics=RUNS)
    outbox.start()
    for _ in range(20):
        world.start_run()
    assert asked.wait(20)
    quick.wait_for(lambda: len(quick.taken) == 20)
    for _ in range(20):
        world.start_run()
    quick.wait_for(lambda: len(quick.taken) == 40)
    assert slow.taken == []
    outbox.stop()
    release.set()


def test_webhooks_are_added_and_removed_while_the_outbox_runs(
    world: World, outbox: Outbox, new_receiver: Callable[[], Receiver]
) -> None:
    first, second = new_receiver(), new_receiver()
    hook: Webhook = world.add_webhook(first.url, topics=RUNS)
    outbox.start()
    world.start_run()
    first.wait_for(lambda: len(first.taken) == 1)

    world.store.write(lambda tx: webhooks.remove_webhook(tx, hook.id))
    world.add_webhook(second.url, topics=RUNS)
    world.start_run()
    second.wait_for(lambda: len(second.taken) >= 1)
    assert len(first.taken) == 1
