-- Batches of runs: the batch itself, and one row for each of its settings.

create table run_batch (
    id integer primary key,             -- the API id; from counter, ascends with creation
    account text not null,              -- whose it is
    uuid text not null,                 -- the API's second name of it
    name text,                          -- not unique
    status text not null,               -- BatchStatus; moved by advance() alone
    revision bigint not null,           -- moves with every change of state; guards the apply
    cancel_wished_ms bigint,            -- CancelRunBatch was answered
    delete_runs_wished_ms bigint,       -- DeleteRunBatch was answered
    delete_wished_ms bigint,            -- DeleteBatch was answered: the batch is gone for clients
    workflow_id bigint not null,        -- the workflow of its runs
    run_group_id bigint,                -- the run group of its runs
    default_run_setting text not null,  -- the client's document
    inline_settings text,               -- the client's list; null when it is a file, and once it was read
    settings_uri text,                  -- the file with the list
    settings_etag text,                 -- of that file when StartRunBatch was answered
    total_runs bigint,                  -- how many settings there are; null until they were counted
    loaded_runs bigint not null,        -- how many of them have their row
    started_runs bigint not null,       -- settings that became a run
    failed_starts bigint not null,      -- settings that were refused
    cancelled_runs bigint not null,     -- settings that will make no run any more, and runs that were told to end
    failed_cancels bigint not null,     -- runs that had ended before
    deleted_runs bigint not null,       -- runs that were told to go
    failed_deletes bigint not null,     -- runs that were gone before
    started_by text not null,           -- principal ARN
    tags text not null,                 -- tag → value; of the batch, not of its runs
    created_ms bigint not null,         -- StartRunBatch was answered
    submitted_ms bigint,                -- every setting had its turn
    processed_ms bigint,                -- every run had ended
    failed_ms bigint,                   -- FAILED
    failure_category text,              -- why it is FAILED, as events carry it
    failure_reason text                 -- the same as a sentence
);
-- What clients list is what has no delete wish.
create index run_batch_by_account on run_batch (account, id) where delete_wished_ms is null;
create index run_batch_by_status on run_batch (account, status, id) where delete_wished_ms is null;
create index run_batch_by_name on run_batch (account, name, id) where delete_wished_ms is null;
create index run_batch_by_group on run_batch (account, run_group_id, id) where run_group_id is not null and delete_wished_ms is null;
-- What the scheduler takes up. The list of statuses is checked against the domain's.
create index run_batch_open on run_batch (id)
    where status not in ('CANCELLED', 'FAILED', 'PROCESSED', 'RUNS_DELETED', 'RUNS_DELETE_FAILED')
        or delete_runs_wished_ms is not null or delete_wished_ms is not null;

create table batch_run (
    id integer primary key,             -- from counter, ascends in the order of the settings; never shown
    account text not null,              -- whose it is: the batch's
    batch_id bigint not null,           -- the batch
    run_setting_id text not null,       -- the client's name of the setting
    setting text,                       -- the client's document; null once it had its turn
    submission_status text,             -- SubmissionStatus; null until it had its turn
    run_id bigint,                      -- the run it became
    run_uuid text,                      -- the run's uuid: the run may be gone
    failure_reason text,                -- the API's name of the error it was refused with
    failure_message text                -- the same as a sentence
);
create unique index batch_run_by_setting on batch_run (batch_id, run_setting_id);
create index batch_run_by_batch on batch_run (batch_id, id);
create index batch_run_by_status on batch_run (batch_id, submission_status, id);
create index batch_run_by_run on batch_run (batch_id, run_id) where run_id is not null;

insert into counter (kind, value) values ('run-batch', 999999), ('batch-run', 999999);
