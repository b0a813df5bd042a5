-- name: insert_tasks(id, account, run_id, uuid, incarnation, key, attempt, try_, name, cpus, memory_gib, gpus, instance_type, image, image_digest, source_image, cache_hit, cache_s3_uri, created_ms)*!
insert into task (
    id, account, run_id, uuid, incarnation, key, attempt, try, name, status, revision, cpus, memory_gib, gpus,
    instance_type, image, image_digest, source_image, has_log, cache_hit, cache_s3_uri, created_ms
) values (
    :id, :account, :run_id, :uuid, :incarnation, :key, :attempt, :try_, :name, 'PENDING', 1, :cpus, :memory_gib, :gpus,
    :instance_type, :image, :image_digest, :source_image, 0, :cache_hit, :cache_s3_uri, :created_ms
);

-- name: find_task(account, run_id, id)^
select {task} from task
where id = :id and run_id = :run_id and account = :account
    and exists (select 1 from run where run.id = :run_id and run.delete_wished_ms is null);

-- name: has_visible_run(account, run_id)$
select 1 from run where id = :run_id and account = :account and delete_wished_ms is null;

-- name: load_task(id)^
select {task} from task where id = :id;

-- name: find_task_by_key(run_id, incarnation, key, attempt)^
select {task} from task
where run_id = :run_id and incarnation = :incarnation and key = :key and attempt = :attempt
order by try desc limit 1;

-- name: open_tasks()
select {task} from task where status not in ('COMPLETED', 'FAILED', 'CANCELLED') order by run_id, id;

-- name: open_tasks_of_run(run_id)
select {task} from task
where run_id = :run_id and status not in ('COMPLETED', 'FAILED', 'CANCELLED') order by id;

-- name: tasks_of_run(run_id)
select {task} from task where run_id = :run_id order by id;
