-- The first schema. Times are UTC epoch milliseconds; documents are JSON text; ids are decimal and ascend with creation.
-- Every row of a tenant begins with its account.

create table account (
    account text primary key,           -- 12 digits
    name text not null,                 -- what an operator calls it
    created_ms bigint not null
);

create table access_key (
    key_id text primary key,            -- AKIA…, public
    account text not null,              -- whose requests it signs
    secret text not null,               -- the SigV4 secret
    principal_arn text not null,        -- startedBy and the audit's who
    status text not null,               -- ACTIVE or DISABLED
    created_ms bigint not null
);

create table counter (
    kind text primary key,              -- run, task, workflow, …
    value bigint not null               -- the id given out last
);

create table request_token (
    account text not null,
    operation text not null,            -- StartRun, CreateWorkflow, …
    token text not null,                -- the client's requestId
    body_hash text not null,            -- of the request without the token: a repeat with another body is a conflict
    answer text not null,               -- the first answer, given again verbatim
    created_ms bigint not null,         -- forgotten after 30 days
    primary key (account, operation, token)
);
create index request_token_age on request_token (created_ms);

create table workflow (
    id integer primary key,
    account text not null,
    uuid text not null,
    name text,
    description text,
    type text not null,                 -- PRIVATE or READY2RUN
    status text not null,               -- CREATING, ACTIVE, UPDATING, DELETED, FAILED, INACTIVE
    status_message text,
    engine text,                        -- as asked for, then as detected
    main text,                          -- as asked for, then as detected
    definition_sha256 text,             -- names definitions/<sha256>; null until the archive is here
    definition_uri text,                -- where the archive is to be fetched from, when it was not sent along
    parameter_template text,            -- name → {description, optional}
    template_given bigint not null,     -- 1: the client gave it and nothing replaces it
    storage_type text,
    storage_capacity_gib bigint,
    accelerators text,
    tags text not null,
    extra text not null,                -- members kept and returned that nothing queries
    readme text,                        -- markdown
    revision bigint not null,           -- moves with every change; guards updates
    created_ms bigint not null
);
create index workflow_by_account on workflow (account, id);
create index workflow_by_name on workflow (account, name, id);
create index workflow_by_type on workflow (account, type, id);
create index workflow_by_definition on workflow (definition_sha256) where definition_sha256 is not null;
create index workflow_creating on workflow (id) where status = 'CREATING';

create table run (
    id integer primary key,
    account text not null,
    uuid text not null,
    name text,
    status text not null,               -- RunStatus; moved by advance() alone
    phase text,                         -- importing, executing, exporting while RUNNING
    outcome text,                       -- the end being carried while STOPPING (and exporting after a time-out)
    incarnation bigint not null,        -- how often an engine was started
    revision bigint not null,           -- moves with every change of state; guards the apply
    cancel_wished_ms bigint,            -- CancelRun was answered
    delete_wished_ms bigint,            -- DeleteRun was answered: the run is gone for clients
    workflow_id bigint not null,
    workflow_type text not null,
    workflow_name text,
    workflow_uuid text not null,
    workflow_owner_id text,             -- as given by the client
    workflow_version_name text,
    source_run_id bigint,               -- the run this one repeats
    run_group_id bigint,
    run_cache_id bigint,
    cache_behavior text,
    batch_id bigint,
    priority bigint,                    -- higher goes first
    engine text not null,
    engine_version text,                -- what really ran it (Nextflow only, as the API has it)
    main text not null,
    digest text not null,               -- sha256:<hex of the archive>
    definition_sha256 text not null,
    accelerators text,
    parameters text,                    -- the client's document
    storage_type text not null,
    storage_capacity_gib bigint,        -- STATIC: as resolved from request, version, workflow, setting
    storage_peak_bytes bigint,          -- most ever used; set when the volume goes
    resource_digests text,              -- input URI → etag:…
    role_arn text not null,
    started_by text not null,           -- principal ARN
    output_uri text not null,           -- verbatim
    run_output_uri text not null,
    log_level text not null,
    retention_mode text not null,
    tags text not null,
    extra text not null,                -- other members of the request, kept and returned
    sandbox_slot bigint,                -- which uid of the range belongs to it until its volume is gone
    created_ms bigint not null,
    started_ms bigint,                  -- RUNNING
    stopped_ms bigint,                  -- ended
    failure_reason text,
    status_message text
);
-- What clients list is what has no delete wish: such a run leaves these indexes at once, however long its removal takes.
create index run_by_account on run (account, id) where delete_wished_ms is null;
create index run_by_status on run (account, status, id) where delete_wished_ms is null;
create index run_by_name on run (account, name, id) where delete_wished_ms is null;
create index run_by_name_status on run (account, name, status, id) where delete_wished_ms is null;
create index run_by_group on run (account, run_group_id, id) where run_group_id is not null and delete_wished_ms is null;
create index run_by_group_status on run (account, run_group_id, status, id)
    where run_group_id is not null and delete_wished_ms is null;
create index run_by_batch on run (account, batch_id, id) where batch_id is not null and delete_wished_ms is null;
create index run_by_batch_status on run (account, batch_id, status, id) where batch_id is not null and delete_wished_ms is null;
-- What the scheduler asks for: small whatever the number of ended runs. The lists of statuses are checked against the domain's.
create index run_pending on run (coalesce(priority, 0) desc, id) where status = 'PENDING';
create index run_active on run (id) where status not in ('PENDING', 'COMPLETED', 'FAILED', 'CANCELLED', 'DELETED');
create index run_to_cancel on run (id)
    where cancel_wished_ms is not null and status not in ('COMPLETED', 'FAILED', 'CANCELLED', 'DELETED');
create index run_to_delete on run (id) where delete_wished_ms is not null;
create unique index run_sandbox_slot on run (sandbox_slot) where sandbox_slot is not null;
-- Which definitions are still named. Eight digits tell them apart well enough for a fifth of the room.
create index run_by_definition on run (substr(definition_sha256, 1, 8));

create table task (
    id integer primary key,
    account text not null,
    run_id bigint not null,
    uuid text not null,
    incarnation bigint not null,        -- of the run's engine
    key text not null,                  -- the engine's, relative to its working directory
    attempt bigint not null,            -- the engine's retry
    try bigint not null,                -- ours: LOST and RUNTIME are tried again
    name text not null,
    status text not null,               -- TaskStatus; moved by advance() alone
    revision bigint not null,
    cpus bigint not null,
    memory_gib bigint not null,
    gpus bigint not null,
    instance_type text,
    image text,
    image_digest text,
    source_image text,
    reason text,                        -- OK, EXIT, OOM, …
    exit_code bigint,
    cpu_seconds double precision,
    peak_memory_bytes bigint,
    has_log bigint not null,            -- 1: the stream exists
    cache_hit bigint not null,
    cache_s3_uri text,
    created_ms bigint not null,
    started_ms bigint,
    stopped_ms bigint,
    failure_reason text,
    status_message text
);
create unique index task_by_key on task (run_id, incarnation, key, attempt, try);
create index task_by_run on task (run_id, id);
create index task_by_run_status on task (run_id, status, id);
create index task_open on task (run_id, id) where status not in ('COMPLETED', 'FAILED', 'CANCELLED');

create table event (
    -- only: sqlite
    id integer primary key,
    -- end
    -- only: postgresql
    id bigint generated always as identity primary key,
    -- end
    account text not null,
    kind text not null,                 -- run, task, workflow, …
    resource_id text not null,
    status text not null,               -- the new one
    seq bigint not null,                -- the revision it came with: orders the events of one resource, tells a repeat
    at_ms bigint not null,
    detail text not null,               -- what the delivery needs when the row is gone
    delivered_ms bigint                 -- null until every sink took it
);
create index event_undelivered on event (id) where delivered_ms is null;
create index event_delivered on event (delivered_ms) where delivered_ms is not null;

insert into counter (kind, value) values ('run', 999999), ('task', 999999), ('workflow', 999999);
