-- name: add_event(account, kind, resource_id, status, seq, at_ms, detail)!
insert into event (account, kind, resource_id, status, seq, at_ms, detail)
values (:account, :kind, :resource_id, :status, :seq, :at_ms, :detail);

-- name: undelivered(limit)
select {event} from event where delivered_ms is null order by id limit :limit;

-- name: mark_delivered(now_ms, id)*!
update event set delivered_ms = :now_ms where id = :id and delivered_ms is null;

-- name: forget_events(before_ms, limit)!
delete from event where id in (
    select id from event where delivered_ms is not null and delivered_ms < :before_ms order by delivered_ms limit :limit
);
