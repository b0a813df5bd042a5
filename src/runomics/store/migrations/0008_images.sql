-- What the names of container images mean in each run.

create table image (
    account text not null,              -- whose run it is
    run_id bigint not null,             -- the run
    name text not null,                 -- as the run's definition says it
    image text not null,                -- what the workflow's registry map makes of it
    location text not null,             -- where this server pulls it from
    digest text not null,               -- what that meant when the run first asked: the run keeps to it
    resolved_ms bigint not null,        -- when that was
    primary key (run_id, name)
);
