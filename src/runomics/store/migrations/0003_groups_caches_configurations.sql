-- Run groups, run caches and configurations, and how admission finds the runs that wait in a group.

create table run_group (
    id integer primary key,             -- the API id; from counter, ascends with creation
    account text not null,              -- whose it is
    name text,                          -- not unique
    max_runs bigint,                    -- how many of its runs may be active; null: no limit, here and below
    max_cpus bigint,                    -- what its running tasks may have asked for together
    max_gpus bigint,                    -- the same of accelerators
    max_duration_minutes bigint,        -- how long each of its runs may take
    tags text not null,                 -- tag → value
    revision bigint not null,           -- moves with every change: tells old limits from new ones
    created_ms bigint not null          -- CreateRunGroup was answered
);
create index run_group_by_account on run_group (account, id);
create index run_group_by_name on run_group (account, name, id);

create table run_cache (
    id integer primary key,             -- the API id; from counter, ascends with creation
    account text not null,              -- whose it is
    uuid text not null,                 -- names its folder at its place
    name text,                          -- not unique
    description text,                   -- the client's words
    cache_behavior text not null,       -- CACHE_ALWAYS or CACHE_ON_FAILURE, unless a run says otherwise
    cache_s3_uri text not null,         -- its place, verbatim
    cache_bucket_owner_id text not null, -- who is expected to own the bucket
    tags text not null,                 -- tag → value
    created_ms bigint not null          -- CreateRunCache was answered
);
create index run_cache_by_account on run_cache (account, id);

create table configuration (
    id integer primary key,             -- from counter, ascends with creation; never shown
    account text not null,              -- whose it is
    name text not null,                 -- the client's name of it, free again once it is deleted
    uuid text not null,                 -- tells two configurations apart that had one name in turn
    description text,                   -- the client's words
    status text not null,               -- ConfigurationStatus; moved by advance() alone
    run_configurations text not null,   -- what it is about: the client's document
    tags text not null,                 -- tag → value
    revision bigint not null,           -- moves with every change of state; guards the apply
    created_ms bigint not null          -- CreateConfiguration was answered
);
create unique index configuration_by_name on configuration (account, name);
create index configuration_by_account on configuration (account, id);
create index configuration_creating on configuration (id) where status = 'CREATING';

alter table run add column configuration_id bigint; -- the configuration it names, which cannot be removed before it has ended

-- Who waits. A run that is to be cancelled waits for nothing. Each run is in one of the two, so that a full group hides nobody.
drop index run_pending;
create index run_pending_alone on run (coalesce(priority, 0) desc, id)
    where status = 'PENDING' and cancel_wished_ms is null and run_group_id is null;
create index run_pending_in_group on run (run_group_id, coalesce(priority, 0) desc, id)
    where status = 'PENDING' and cancel_wished_ms is null and run_group_id is not null;
create index run_active_in_group on run (run_group_id)
    where run_group_id is not null and status not in ('PENDING', 'COMPLETED', 'FAILED', 'CANCELLED', 'DELETED');
-- What stands in the way of a removal.
create index run_open_in_group on run (run_group_id)
    where run_group_id is not null and status not in ('COMPLETED', 'FAILED', 'CANCELLED', 'DELETED');
create index run_open_with_cache on run (run_cache_id)
    where run_cache_id is not null and status not in ('COMPLETED', 'FAILED', 'CANCELLED', 'DELETED');
create index run_open_with_configuration on run (configuration_id)
    where configuration_id is not null and status not in ('COMPLETED', 'FAILED', 'CANCELLED', 'DELETED');

insert into counter (kind, value) values ('run-group', 999999), ('run-cache', 999999), ('configuration', 999999);
