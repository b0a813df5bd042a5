-- The list of statuses stands as in the partial index, word for word: an index serves only the condition it was made with.

-- name: insert_batch(id, account, uuid, name, workflow_id, run_group_id, default_run_setting, inline_settings, settings_uri, settings_etag, started_by, tags, created_ms)!
insert into run_batch (
    id, account, uuid, name, status, revision, workflow_id, run_group_id, default_run_setting, inline_settings, settings_uri,
    settings_etag, loaded_runs, started_runs, failed_starts, cancelled_runs, failed_cancels, deleted_runs, failed_deletes,
    started_by, tags, created_ms
) values (
    :id, :account, :uuid, :name, 'CREATING', 1, :workflow_id, :run_group_id, :default_run_setting, :inline_settings, :settings_uri,
    :settings_etag, 0, 0, 0, 0, 0, 0, 0,
    :started_by, :tags, :created_ms
);

-- name: find_batch(account, id)^
select {batch} from run_batch where id = :id and account = :account and delete_wished_ms is null;

-- name: load_batch(id)^
select {batch} from run_batch where id = :id;

-- name: open_batches()
select id from run_batch
where status not in ('CANCELLED', 'FAILED', 'PROCESSED', 'RUNS_DELETED', 'RUNS_DELETE_FAILED')
    or delete_runs_wished_ms is not null or delete_wished_ms is not null
order by id;

-- name: wish_cancel(account, id, now_ms)!
update run_batch set cancel_wished_ms = coalesce(cancel_wished_ms, :now_ms)
where id = :id and account = :account and delete_wished_ms is null;

-- name: wish_delete_runs(account, id, now_ms)!
update run_batch set delete_runs_wished_ms = coalesce(delete_runs_wished_ms, :now_ms)
where id = :id and account = :account and delete_wished_ms is null;

-- name: wish_delete(account, id, now_ms)!
update run_batch set delete_wished_ms = :now_ms
where id = :id and account = :account and delete_wished_ms is null;

-- name: count_runs(account, batch_id)^
select
    (select count(*) from run
        where account = :account and batch_id = :batch_id and status = 'PENDING' and delete_wished_ms is null),
    (select count(*) from run
        where account = :account and batch_id = :batch_id and status = 'STARTING' and delete_wished_ms is null),
    (select count(*) from run
        where account = :account and batch_id = :batch_id and status = 'RUNNING' and delete_wished_ms is null),
    (select count(*) from run
        where account = :account and batch_id = :batch_id and status = 'STOPPING' and delete_wished_ms is null),
    (select count(*) from run
        where account = :account and batch_id = :batch_id and status = 'COMPLETED' and delete_wished_ms is null),
    (select count(*) from run
        where account = :account and batch_id = :batch_id and status = 'FAILED' and delete_wished_ms is null),
    (select count(*) from run
        where account = :account and batch_id = :batch_id and status = 'CANCELLED' and delete_wished_ms is null);

-- name: has_open_runs(account, batch_id)$
select
    exists (select 1 from run
        where account = :account and batch_id = :batch_id and status = 'PENDING' and delete_wished_ms is null)
    or exists (select 1 from run
        where account = :account and batch_id = :batch_id and status = 'STARTING' and delete_wished_ms is null)
    or exists (select 1 from run
        where account = :account and batch_id = :batch_id and status = 'RUNNING' and delete_wished_ms is null)
    or exists (select 1 from run
        where account = :account and batch_id = :batch_id and status = 'STOPPING' and delete_wished_ms is null);

-- name: delete_batch(id)!
delete from run_batch where id = :id;
