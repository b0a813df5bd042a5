-- The lists of statuses stand as in the partial indexes, word for word: an index serves only the condition it was made with.

-- name: insert_run(id, account, uuid, name, workflow_id, workflow_type, workflow_name, workflow_uuid, workflow_owner_id, workflow_version_name, source_run_id, run_group_id, run_cache_id, cache_behavior, batch_id, configuration_id, priority, engine, main, digest, definition_sha256, accelerators, parameters, storage_type, storage_capacity_gib, role_arn, started_by, output_uri, run_output_uri, log_level, retention_mode, tags, extra, created_ms)!
insert into run (
    id, account, uuid, name, status, incarnation, revision,
    workflow_id, workflow_type, workflow_name, workflow_uuid, workflow_owner_id, workflow_version_name,
    source_run_id, run_group_id, run_cache_id, cache_behavior, batch_id, configuration_id, priority,
    engine, main, digest, definition_sha256, accelerators, parameters, storage_type, storage_capacity_gib,
    role_arn, started_by, output_uri, run_output_uri, log_level, retention_mode, tags, extra, created_ms
) values (
    :id, :account, :uuid, :name, 'PENDING', 0, 1,
    :workflow_id, :workflow_type, :workflow_name, :workflow_uuid, :workflow_owner_id, :workflow_version_name,
    :source_run_id, :run_group_id, :run_cache_id, :cache_behavior, :batch_id, :configuration_id, :priority,
    :engine, :main, :digest, :definition_sha256, :accelerators, :parameters, :storage_type, :storage_capacity_gib,
    :role_arn, :started_by, :output_uri, :run_output_uri, :log_level, :retention_mode, :tags, :extra, :created_ms
);

-- name: find_run(account, id)^
select {run} from run where id = :id and account = :account and delete_wished_ms is null;

-- name: load_run(id)^
select {run} from run where id = :id;

-- name: wish_cancel(account, id, now_ms)!
update run set cancel_wished_ms = coalesce(cancel_wished_ms, :now_ms)
where id = :id and account = :account and delete_wished_ms is null;

-- name: wish_delete(account, id, now_ms)!
update run set delete_wished_ms = :now_ms
where id = :id and account = :account and delete_wished_ms is null;

-- :full has those that may not start: |ACCOUNT TYPE||ACCOUNT TYPE|

-- name: pending_runs(limit, full)
select id, coalesce(priority, 0), storage_type, storage_capacity_gib, account from run
where status = 'PENDING' and cancel_wished_ms is null and run_group_id is null
    and replace(:full, '|' || account || ' ' || storage_type || '|', '') = :full
order by coalesce(priority, 0) desc, id limit :limit;

-- name: active_run_ids()
select id from run where status not in ('PENDING', 'COMPLETED', 'FAILED', 'CANCELLED', 'DELETED') order by id;

-- name: active_run_uuids()
select uuid from run where status not in ('PENDING', 'COMPLETED', 'FAILED', 'CANCELLED', 'DELETED') order by id;

-- name: count_pending()$
select
    (select count(*) from run where status = 'PENDING' and cancel_wished_ms is null and run_group_id is null)
    + (select count(*) from run where status = 'PENDING' and cancel_wished_ms is null and run_group_id is not null);

-- name: active_quotas()
select account, storage_type from run where status not in ('PENDING', 'COMPLETED', 'FAILED', 'CANCELLED', 'DELETED');

-- name: count_active()$
select count(*) from run where status not in ('PENDING', 'COMPLETED', 'FAILED', 'CANCELLED', 'DELETED');

-- name: runs_to_cancel()
select id from run
where cancel_wished_ms is not null and status not in ('COMPLETED', 'FAILED', 'CANCELLED', 'DELETED')
order by id;

-- name: runs_to_delete()
select id from run where delete_wished_ms is not null order by id;

-- name: used_sandbox_slots()
select sandbox_slot from run where sandbox_slot is not null order by sandbox_slot;

-- name: is_deletable(id, revision, status)$
select 1 from run
where id = :id and revision = :revision and status = :status and delete_wished_ms is not null
    and status in ('COMPLETED', 'FAILED', 'CANCELLED');

-- name: delete_tasks_of_run(run_id, limit)!
delete from task where id in (select id from task where run_id = :run_id order by id limit :limit);

-- name: delete_images_of_run(run_id)!
delete from image where run_id = :run_id;

-- name: delete_run(id)!
delete from run where id = :id;
