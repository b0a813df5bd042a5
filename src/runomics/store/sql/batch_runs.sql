-- name: runs_being_cancelled(limit)
select id from run
where cancel_wished_ms is not null and status not in ('COMPLETED', 'FAILED', 'CANCELLED', 'DELETED')
order by id limit :limit;

-- name: runs_being_deleted(limit)
select id from run where delete_wished_ms is not null order by id limit :limit;

-- name: insert_settings(id, account, batch_id, run_setting_id, setting)*!
insert into batch_run (id, account, batch_id, run_setting_id, setting)
values (:id, :account, :batch_id, :run_setting_id, :setting);

-- name: count_loaded(id, loaded)!
update run_batch set loaded_runs = loaded_runs + :loaded where id = :id;

-- name: count_submitted(id, started, failed)!
update run_batch set started_runs = started_runs + :started, failed_starts = failed_starts + :failed where id = :id;

-- name: count_cancelled(id, done, failed)!
update run_batch set cancelled_runs = cancelled_runs + :done, failed_cancels = failed_cancels + :failed where id = :id;

-- name: count_deleted(id, done, failed)!
update run_batch set deleted_runs = deleted_runs + :done, failed_deletes = failed_deletes + :failed where id = :id;

-- name: waiting_settings(batch_id, limit)
select id, setting from batch_run where batch_id = :batch_id and submission_status is null order by id limit :limit;

-- name: settings_of_status(batch_id, submission_status, after_id, limit)
select id, run_id from batch_run
where batch_id = :batch_id and submission_status = :submission_status and id > :after_id order by id limit :limit;

-- name: note_submission(id, submission_status, run_id, run_uuid, failure_reason, failure_message)*!
update batch_run
set setting = null, submission_status = :submission_status, run_id = :run_id, run_uuid = :run_uuid,
    failure_reason = :failure_reason, failure_message = :failure_message
where id = :id and submission_status is null;

-- name: note_wish(id, submission_status, failure_reason, failure_message)*!
update batch_run
set submission_status = :submission_status, failure_reason = :failure_reason, failure_message = :failure_message
where id = :id;

-- name: delete_settings(batch_id, limit)!
delete from batch_run where id in (select id from batch_run where batch_id = :batch_id order by id limit :limit);
