"""Runs, tasks and workflows that change, webhooks that are told, and a clock that the test moves."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from runomics.domain.event import SECRET_PREFIX, Topic, Webhook
from runomics.domain.run import CancelRequested, RunState, advance
from runomics.events.outbox import Courier
from runomics.events.webhook import WebhookSink
from runomics.store import runs, tasks, webhooks
from runomics.store.database import Store, Tx, next_id
from runomics.store.runs import NewRun, RunRow
from runomics.store.tasks import NewTask
from runomics.store.webhooks import WebhookQueues

ACCOUNT, OTHER = "123456789012", "210987654321"
REGION = "eu-central-1"
NOW_MS = 1_764_000_000_500
SECRET = SECRET_PREFIX + base64.b64encode(b"k" * 32).decode()


class World:
    """`now_ms` moves only when the test moves it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.time_ms = NOW_MS
        self.queues = WebhookQueues(store, now_ms=self.now_ms)
        self._couriers: dict[int, Courier] = {}

    def now_ms(self) -> int:
        return self.time_ms

    def close(self) -> None:
        for courier in self._couriers.values():
            courier.close()

    # ---- what changes

    def start_run(self, *, account: str = ACCOUNT, **changes: Any) -> RunRow:
        def unit(tx: Tx) -> RunRow:
            run_id = next_id(tx, "run")
            values: dict[str, Any] = {
                "id": run_id,
                "account": account,
                "uuid": f"uuid-{run_id}",
                "name": "sample",
                "workflow_id": 1234567,
                "workflow_type": "PRIVATE",
                "workflow_name": "align",
                "workflow_uuid": "workflow-uuid",
                "engine": "WDL",
                "main": "main.wdl",
                "digest": "sha256:" + "a" * 64,
                "definition_sha256": "a" * 64,
                "storage_type": "STATIC",
                "role_arn": "arn:aws:iam::123456789012:role/omics",
                "started_by": "arn:aws:iam::123456789012:user/dev",
                "output_uri": "s3://bucket/out",
                "run_output_uri": f"s3://bucket/out/{run_id}",
                "log_level": "ALL",
                "retention_mode": "RETAIN",
                "created_ms": self.time_ms,
            }
            runs.insert_run(tx, NewRun(**{**values, **changes}))
            return self._loaded(tx, run_id)

        return self.store.write(unit)

    def move(self, run: RunRow, to: RunState) -> RunRow:
        def unit(tx: Tx) -> RunRow:
            assert runs.apply_run(tx, run, to, now_ms=self.time_ms)
            return self._loaded(tx, run.id)

        return self.store.write(unit)

    def cancel(self, run: RunRow) -> RunRow:
        return self.move(run, advance(run.state, CancelRequested()))

    def delete(self, run: RunRow) -> None:
        def unit(tx: Tx) -> None:
            assert runs.wish_delete(tx, run.account, run.id, self.time_ms)
            assert runs.delete_run(tx, self._loaded(tx, run.id), now_ms=self.time_ms)

        self.store.write(unit)

    def submit_task(self, run: RunRow) -> int:
        def unit(tx: Tx) -> int:
            task_id = next_id(tx, "task")
            new = NewTask(
                id=task_id,
                account=run.account,
                run_id=run.id,
                uuid=f"task-uuid-{task_id}",
                incarnation=1,
                key=f"k{task_id}",
                attempt=1,
                name="bwa",
                cpus=2,
                memory_gib=4,
                created_ms=self.time_ms,
            )
            tasks.insert_tasks(tx, [new])
            return task_id

        return self.store.write(unit)

    def _loaded(self, tx: Tx, run_id: int) -> RunRow:
        run = runs.load_run(tx, run_id)
        assert run is not None
        return run

    # ---- who is told

    def add_webhook(self, url: str, *, account: str | None = None, topics: frozenset[Topic] | None = None) -> Webhook:
        chosen = frozenset(Topic) if topics is None else topics
        return self.store.write(
            lambda tx: webhooks.add_webhook(
                tx, url=url, account=account, topics=chosen, secret=SECRET, now_ms=self.time_ms
            )
        )

    def deal(self) -> None:
        while self.queues.deal():
            pass

    def courier(self, webhook: Webhook) -> Courier:
        """The one courier of the webhook, as a server has it."""
        if webhook.id not in self._couriers:
            sink = WebhookSink(webhook, region=REGION, now_ms=self.now_ms, timeout_seconds=5.0)
            self._couriers[webhook.id] = Courier(webhook, queues=self.queues, sink=sink, clock=self)
        return self._couriers[webhook.id]

    def restart(self) -> None:
        """What a new server knows: what is in the database."""
        self.close()
        self._couriers.clear()

    def deliver(self, webhook: Webhook) -> int | None:
        """Rounds for as long as something is due at this moment; in how many ms there is more."""
        self.deal()
        while (wait_ms := self.courier(webhook).deliver()) == 0:
            pass
        return wait_ms

    def waiting(self, webhook: Webhook) -> int:
        return self.store.read(lambda tx: webhooks.count_waiting(tx, webhook.id))[0]

    def noted(self, webhook: Webhook) -> tuple[str | None, int | None]:
        found = next(one for one in self.store.read(webhooks.list_webhooks) if one.id == webhook.id)
        return found.failure, found.failing_since_ms

    def queued(self) -> list[tuple[int, str, str, dict[str, Any]]]:
        """Everything in all queues: webhook, kind, status, detail."""
        rows = self.store.read(
            lambda tx: tx.rows("select webhook_id, kind, status, detail from webhook_event order by id", {})
        )
        return [(webhook_id, kind, status, orjson.loads(detail)) for webhook_id, kind, status, detail in rows]
