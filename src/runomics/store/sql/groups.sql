-- The lists of statuses stand as in the partial indexes, word for word: an index serves only the condition it was made with.

-- name: insert_group(id, account, name, max_runs, max_cpus, max_gpus, max_duration_minutes, tags, created_ms)!
insert into run_group (id, account, name, max_runs, max_cpus, max_gpus, max_duration_minutes, tags, revision, created_ms)
values (:id, :account, :name, :max_runs, :max_cpus, :max_gpus, :max_duration_minutes, :tags, 1, :created_ms);

-- name: find_group(account, id)^
select {group} from run_group where id = :id and account = :account;

-- name: count_groups(account)$
select count(*) from run_group where account = :account;

-- name: update_group(account, id, name, max_runs, max_cpus, max_gpus, max_duration_minutes)!
update run_group set
    revision = revision + 1, name = coalesce(:name, name), max_runs = coalesce(:max_runs, max_runs),
    max_cpus = coalesce(:max_cpus, max_cpus), max_gpus = coalesce(:max_gpus, max_gpus),
    max_duration_minutes = coalesce(:max_duration_minutes, max_duration_minutes)
where id = :id and account = :account;

-- name: delete_group(account, id)!
delete from run_group where id = :id and account = :account;

-- name: open_run_of_group(id)$
select id from run
where run_group_id = :id and status not in ('COMPLETED', 'FAILED', 'CANCELLED', 'DELETED')
limit 1;

-- name: load_group(id)^
select {group} from run_group where id = :id;

-- name: active_runs_of_groups()
select run_group_id, count(*) from run
where run_group_id is not null and status not in ('PENDING', 'COMPLETED', 'FAILED', 'CANCELLED', 'DELETED')
group by run_group_id;

-- name: active_runs_of_group(id)
select id from run
where run_group_id = :id and status not in ('PENDING', 'COMPLETED', 'FAILED', 'CANCELLED', 'DELETED');

-- name: count_active_runs_of_group(id)$
select count(*) from run
where run_group_id = :id and status not in ('PENDING', 'COMPLETED', 'FAILED', 'CANCELLED', 'DELETED');

-- name: next_group_with_pending_runs(after_id, full)^
select run.run_group_id, run_group.max_runs, run.id, coalesce(run.priority, 0), run.storage_type, run.storage_capacity_gib,
    run.account
from run left join run_group on run_group.id = run.run_group_id
where run.status = 'PENDING' and run.cancel_wished_ms is null and run.run_group_id > :after_id
    and replace(:full, '|' || run.account || ' ' || run.storage_type || '|', '') = :full
order by run.run_group_id, coalesce(run.priority, 0) desc, run.id limit 1;

-- name: pending_runs_of_group(id, limit, skip, full)
select id, coalesce(priority, 0), storage_type, storage_capacity_gib, account from run
where status = 'PENDING' and cancel_wished_ms is null and run_group_id = :id
    and replace(:full, '|' || account || ' ' || storage_type || '|', '') = :full
order by coalesce(priority, 0) desc, id limit :limit offset :skip;
