-- name: add_webhook(id, url, account, kinds, secret, created_ms)!
insert into webhook (id, url, account, kinds, secret, created_ms) values (:id, :url, :account, :kinds, :secret, :created_ms);

-- name: list_webhooks()
select {webhook} from webhook order by id;

-- name: remove_webhook(id)!
delete from webhook where id = :id;

-- name: note_failure(id, failure, now_ms)!
update webhook set failure = :failure, failing_since_ms = coalesce(failing_since_ms, :now_ms) where id = :id;

-- name: note_success(id)!
update webhook set failure = null, failing_since_ms = null where id = :id;

-- Behind the others of its resource: when those are held back, so is it.

-- name: queue_events(id, webhook_id, account, kind, resource_id, status, seq, at_ms, detail, due_ms)*!
insert into webhook_event (id, webhook_id, account, kind, resource_id, status, seq, at_ms, detail, due_ms, tries)
values (
    :id, :webhook_id, :account, :kind, :resource_id, :status, :seq, :at_ms, :detail,
    coalesce(
        (
            select due_ms from webhook_event
            where webhook_id = :webhook_id and kind = :kind and resource_id = :resource_id
            order by id desc limit 1
        ),
        :due_ms
    ),
    0
);

-- The first of each resource alone: the next one is told when this one was taken.

-- name: due_events(webhook_id, now_ms, limit)
select {queued} from webhook_event
where webhook_id = :webhook_id and due_ms <= :now_ms
    and not exists (
        select 1 from webhook_event as earlier
        where earlier.webhook_id = webhook_event.webhook_id and earlier.kind = webhook_event.kind
            and earlier.resource_id = webhook_event.resource_id and earlier.id < webhook_event.id
    )
order by due_ms, id limit :limit;

-- name: next_due_ms(webhook_id)$
select due_ms from webhook_event where webhook_id = :webhook_id order by due_ms, id limit 1;

-- name: take_events(id)*!
delete from webhook_event where id = :id;

-- name: hold_resources(webhook_id, kind, resource_id, due_ms)*!
update webhook_event set due_ms = :due_ms, tries = tries + 1
where webhook_id = :webhook_id and kind = :kind and resource_id = :resource_id;

-- name: count_waiting(webhook_id)^
select count(*), min(at_ms) from webhook_event where webhook_id = :webhook_id;

-- name: give_up(before_ms, limit)
delete from webhook_event
where id in (select id from webhook_event where at_ms < :before_ms order by at_ms limit :limit)
returning webhook_id;

-- name: next_queue(after_id)$
select webhook_id from webhook_event where webhook_id > :after_id order by webhook_id, due_ms, id limit 1;

-- name: drop_queue(webhook_id, limit)!
delete from webhook_event
where id in (select id from webhook_event where webhook_id = :webhook_id order by due_ms, id limit :limit);

-- name: run_told_of(id)^
select uuid, name, run_output_uri, workflow_id, workflow_name from run where id = :id;
