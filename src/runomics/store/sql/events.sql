-- name: add_event(account, kind, resource_id, status, seq, at_ms, detail)!
insert into event (account, kind, resource_id, status, seq, at_ms, detail)
values (:account, :kind, :resource_id, :status, :seq, :at_ms, :detail);

-- name: undelivered(limit)
select {event} from event order by id limit :limit;

-- An id is free again once its row is gone; what the row says is not.

-- name: drop_events(id, kind, resource_id, seq)*!
delete from event where id = :id and kind = :kind and resource_id = :resource_id and seq = :seq;

-- name: forget_events(limit)!
delete from event
where id in (select id from event order by id limit :limit) and not exists (select 1 from webhook);
