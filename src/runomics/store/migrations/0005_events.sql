-- Webhooks, each with a queue of its own, and what an account has stored.

create table webhook (
    id integer primary key,             -- from counter, ascends with creation
    url text not null,                  -- where events are sent by POST; http or https
    account text,                       -- whose events; null: every account's
    kinds text not null,                -- JSON list of run, task, batch, workflow, share
    secret text not null,               -- signs what is sent: whsec_ and base64
    created_ms bigint not null,         -- when it was added: it is told of nothing before
    failure text,                       -- why the last attempt failed; null: it did not
    failing_since_ms bigint             -- since when nothing was taken; null: the last attempt went well
);

create table webhook_event (
    -- only: sqlite
    id integer primary key,             -- from counter: the order in which one webhook is told of one resource
    -- end
    -- only: postgresql
    id bigint primary key,              -- the same
    -- end
    webhook_id bigint not null,         -- whose queue it stands in; gone once that webhook took it
    account text not null,              -- whose resource it is
    kind text not null,                 -- as in event, and so are the next five
    resource_id text not null,          -- its API id
    status text not null,               -- the one it came into
    seq bigint not null,                -- orders the events of one resource
    at_ms bigint not null,              -- when it came into the status
    detail text not null,               -- what is told besides
    due_ms bigint not null,             -- not to be tried before
    tries bigint not null               -- how often it was refused
);
create index webhook_event_by_resource on webhook_event (webhook_id, kind, resource_id, id);
create index webhook_event_due on webhook_event (webhook_id, due_ms, id);
create index webhook_event_age on webhook_event (at_ms);

-- An event leaves its table when it comes into the queues. So the table is short, and starting a run writes to no index of it.
drop index event_undelivered;
drop index event_delivered;
alter table event drop column delivered_ms;

create table account_use (
    account text primary key,           -- 12 digits
    stored_runs bigint not null         -- runs that are there for clients, ended or not: counted with each row, never by walking them
);
insert into account_use (account, stored_runs) select account, count(*) from run where delete_wished_ms is null group by account;

-- Whom a new run with retention mode REMOVE takes the place of when the account is full.
create index run_removable on run (account, id)
    where retention_mode = 'REMOVE' and delete_wished_ms is null and status in ('COMPLETED', 'FAILED', 'CANCELLED');

insert into counter (kind, value) values ('webhook', 0), ('webhook-event', 0);
