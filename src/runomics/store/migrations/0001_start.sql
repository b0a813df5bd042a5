-- The first schema. Times are UTC epoch milliseconds; documents are JSON text; ids are decimal and ascend with creation.
-- Every row of a tenant begins with its account.

create table account (
    account text primary key,           -- 12 digits
    name text not null,                 -- what an operator calls it
    created_ms bigint not null          -- when it was added
);

create table access_key (
    key_id text primary key,            -- AKIA…, public
    account text not null,              -- whose requests it signs
    secret text not null,               -- the SigV4 secret
    principal_arn text not null,        -- startedBy and the audit's who
    status text not null,               -- ACTIVE or DISABLED
    created_ms bigint not null          -- when it was made
);

create table counter (
    kind text primary key,              -- run, task, workflow, …
    value bigint not null               -- the id given out last
);

create table request_token (
    account text not null,              -- whose token it is
    operation text not null,            -- StartRun, CreateWorkflow, …
    token text not null,                -- the client's requestId
    body_hash text not null,            -- of the request without the token: a repeat with another body is a conflict
    answer text not null,               -- the first answer, given again verbatim
    created_ms bigint not null,         -- forgotten after 30 days
    primary key (account, operation, token)
);
create index request_token_age on request_token (created_ms);

create table workflow (
    id integer primary key,             -- the API id; from counter, ascends with creation
    account text not null,              -- whose it is
    uuid text not null,                 -- the API's second name of it
    name text,                          -- not unique
    description text,                   -- the client's words
    type text not null,                 -- PRIVATE or READY2RUN
    status text not null,               -- CREATING, ACTIVE, UPDATING, DELETED, FAILED, INACTIVE
    status_message text,                -- why it is FAILED
    engine text,                        -- as asked for, then as detected
    main text,                          -- as asked for, then as detected
    definition_sha256 text,             -- names definitions/<sha256>; null until the archive is here
    definition_uri text,                -- where the archive is to be fetched from, when it was not sent along
    parameter_template text,            -- name → {description, optional}
    template_given bigint not null,     -- 1: the client gave it and nothing replaces it
    storage_type text,                  -- STATIC or DYNAMIC; null: the setting decides
    storage_capacity_gib bigint,        -- default size of its runs
    accelerators text,                  -- GPU: its tasks may ask for them
    tags text not null,                 -- tag → value
    extra text not null,                -- members kept and returned that nothing queries
    readme text,                        -- markdown
    revision bigint not null,           -- moves with every change; guards updates
    created_ms bigint not null          -- CreateWorkflow was answered
);
create index workflow_by_account on workflow (account, id);
create index workflow_by_name on workflow (account, name, id);
create index workflow_by_type on workflow (account, type, id);
create index workflow_by_definition on workflow (definition_sha256) where definition_sha256 is not null;
create index workflow_creating on workflow (id) where status = 'CREATING';

create table run (
    id integer primary key,             -- the API id; from counter, ascends with creation
    account text not null,              -- whose it is
    uuid text not null,                 -- names its directories on the disk
    name text,                          -- not unique
    status text not null,               -- RunStatus; moved by advance() alone
    phase text,                         -- importing, executing, exporting while RUNNING
    outcome text,                       -- the end being carried while STOPPING (and exporting after a time-out)
    incarnation bigint not null,        -- how often an engine was started
    revision bigint not null,           -- moves with every change of state; guards the apply
    cancel_wished_ms bigint,            -- CancelRun was answered
    delete_wished_ms bigint,            -- DeleteRun was answered: the run is gone for clients
    workflow_id bigint not null,        -- as it was at the start: the workflow may be gone
    workflow_type text not null,        -- PRIVATE or READY2RUN
    workflow_name text,                 -- the workflow's name at the start
    workflow_uuid text not null,        -- the workflow's uuid at the start
    workflow_owner_id text,             -- as given by the client
    workflow_version_name text,         -- null: the workflow itself
    source_run_id bigint,               -- the run this one repeats
    run_group_id bigint,                -- limits it shares
    run_cache_id bigint,                -- results it may take
    cache_behavior text,                -- CACHE_ALWAYS or CACHE_ON_FAILURE
    batch_id bigint,                    -- the StartRunBatch it came by
    priority bigint,                    -- higher goes first
    engine text not null,               -- WDL, CWL or NEXTFLOW
    engine_version text,                -- what really ran it (Nextflow only, as the API has it)
    main text not null,                 -- path of the entry point in the definition
    digest text not null,               -- sha256:<hex of the archive>
    definition_sha256 text not null,    -- names definitions/<sha256>; keeps it from being removed
    accelerators text,                  -- GPU: its tasks may ask for them
    parameters text,                    -- the client's document
    storage_type text not null,         -- STATIC or DYNAMIC
    storage_capacity_gib bigint,        -- STATIC: as resolved from request, version, workflow, setting
    storage_peak_bytes bigint,          -- most ever used; set when the volume goes
    resource_digests text,              -- input URI → etag:…
    role_arn text not null,             -- as whom inputs are read and outputs written
    started_by text not null,           -- principal ARN
    output_uri text not null,           -- verbatim
    run_output_uri text not null,       -- output_uri with the run id
    log_level text not null,            -- OFF, FATAL, ERROR or ALL
    retention_mode text not null,       -- RETAIN or REMOVE
    tags text not null,                 -- tag → value
    extra text not null,                -- other members of the request, kept and returned
    sandbox_slot bigint,                -- which uid of the range belongs to it until its volume is gone
    created_ms bigint not null,         -- StartRun was answered
    started_ms bigint,                  -- RUNNING
    stopped_ms bigint,                  -- ended
    failure_reason text,                -- the API's word for why it FAILED
    status_message text                 -- the same as a sentence
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
    id integer primary key,             -- the API id; from counter, ascends with creation
    account text not null,              -- whose it is: the run's
    run_id bigint not null,             -- the run
    uuid text not null,                 -- the API's second name of it
    incarnation bigint not null,        -- of the run's engine
    key text not null,                  -- the engine's, relative to its working directory
    attempt bigint not null,            -- the engine's retry
    try bigint not null,                -- ours: LOST and RUNTIME are tried again
    name text not null,                 -- the engine's, for people
    status text not null,               -- TaskStatus; moved by advance() alone
    revision bigint not null,           -- moves with every change; guards the apply
    cpus bigint not null,               -- what it is given, rounded up
    memory_gib bigint not null,         -- what it is given, rounded up
    gpus bigint not null,               -- what it is given
    instance_type text,                 -- the omics.… size that fits
    image text,                         -- as the engine named it
    image_digest text,                  -- what the name meant when it was pulled
    source_image text,                  -- where a cached copy was made from
    reason text,                        -- OK, EXIT, OOM, …
    exit_code bigint,                   -- of its command; 128 + signal
    cpu_seconds double precision,       -- measured
    peak_memory_bytes bigint,           -- measured
    has_log bigint not null,            -- 1: the stream exists
    cache_hit bigint not null,          -- 1: a result of the run cache
    cache_s3_uri text,                  -- where that result lies
    created_ms bigint not null,         -- submitted
    started_ms bigint,                  -- its command began (the supervisor's clock)
    stopped_ms bigint,                  -- it ended
    failure_reason text,                -- the API's word for why it FAILED
    status_message text                 -- the same as a sentence
);
create unique index task_by_key on task (run_id, incarnation, key, attempt, try);
create index task_by_run on task (run_id, id);
create index task_by_run_status on task (run_id, status, id);
create index task_open on task (run_id, id) where status not in ('COMPLETED', 'FAILED', 'CANCELLED');

create table event (
    -- only: sqlite
    id integer primary key,             -- order of writing
    -- end
    -- only: postgresql
    id bigint generated always as identity primary key, -- order of writing, but for gaps
    -- end
    account text not null,              -- whose resource it is
    kind text not null,                 -- run, task, workflow, …
    resource_id text not null,          -- its API id
    status text not null,               -- the new one
    seq bigint not null,                -- the revision it came with: orders the events of one resource, tells a repeat
    at_ms bigint not null,              -- when it came into the status
    detail text not null,               -- what the delivery needs when the row is gone
    delivered_ms bigint                 -- null until every sink took it
);
create index event_undelivered on event (id) where delivered_ms is null;
create index event_delivered on event (delivered_ms) where delivered_ms is not null;

insert into counter (kind, value) values ('run', 999999), ('task', 999999), ('workflow', 999999);
