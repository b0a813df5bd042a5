-- Versions of workflows, and workflows shared with other accounts.

create table workflow_version (
    id integer primary key,             -- from counter, ascends with creation; never shown
    account text not null,              -- whose it is: the workflow's
    workflow_id bigint not null,        -- the workflow it is a version of; there as long as the version is
    version_name text not null,         -- the client's name of it, free again once it is deleted
    uuid text not null,                 -- tells two versions apart that had one name in turn
    description text,                   -- the client's words
    status text not null,               -- CREATING, ACTIVE, UPDATING, DELETED, FAILED, INACTIVE
    status_message text,                -- why it is FAILED
    engine text,                        -- as asked for, then as detected
    main text,                          -- as asked for, then as detected
    definition_sha256 text,             -- names definitions/<sha256>; null until the archive is here
    definition_uri text,                -- where the archive is to be fetched from, when it was not sent along
    parameter_template text,            -- name → {description, optional}
    template_given bigint not null,     -- 1: the client gave it and nothing replaces it
    storage_type text,                  -- STATIC or DYNAMIC; null: the setting decides, never the workflow
    storage_capacity_gib bigint,        -- default size of its runs
    accelerators text,                  -- GPU: its tasks may ask for them
    tags text not null,                 -- tag → value; not the workflow's
    extra text not null,                -- members kept and returned that nothing queries
    readme text,                        -- markdown
    revision bigint not null,           -- moves with every change; guards updates
    created_ms bigint not null          -- CreateWorkflowVersion was answered
);
create unique index workflow_version_by_name on workflow_version (workflow_id, version_name);
create index workflow_version_by_workflow on workflow_version (account, workflow_id, id);
create index workflow_version_by_definition on workflow_version (definition_sha256) where definition_sha256 is not null;
create index workflow_version_creating on workflow_version (id) where status = 'CREATING';

create table share (
    id integer primary key,             -- from counter, ascends with creation; never shown
    account text not null,              -- the owner: whose workflow is shared
    share_id text not null,             -- the API id, a uuid
    share_name text,                    -- the owner's name of it; not unique
    workflow_id bigint not null,        -- the workflow that is shared
    resource_arn text not null,         -- the same as an ARN
    principal_subscriber text not null, -- the account it is shared with
    status text not null,               -- ShareStatus; moved by advance() alone
    status_message text,                -- why it is FAILED
    revision bigint not null,           -- moves with every change of state; guards the apply
    created_ms bigint not null,         -- CreateShare was answered
    updated_ms bigint not null          -- it came into its status
);
create unique index share_by_share_id on share (share_id);
create index share_by_owner on share (account, id);
create index share_by_subscriber on share (principal_subscriber, id);
-- What stands in the way of another share and of the workflow's removal. The lists of statuses are checked against the domain's.
create unique index share_live on share (account, workflow_id, principal_subscriber)
    where status not in ('DELETING', 'DELETED', 'FAILED');
create index share_moving on share (id) where status in ('ACTIVATING', 'DELETING');
create index share_deleted on share (updated_ms) where status = 'DELETED';

insert into counter (kind, value) values ('workflow-version', 999999), ('share', 999999);
