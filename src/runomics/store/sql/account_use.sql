-- name: add_stored_run(account)$
insert into account_use (account, stored_runs) values (:account, 1)
on conflict (account) do update set stored_runs = account_use.stored_runs + 1
returning stored_runs;

-- name: add_stored_runs(account, count)!
insert into account_use (account, stored_runs) values (:account, :count)
on conflict (account) do update set stored_runs = account_use.stored_runs + :count;

-- name: drop_stored_run(account)!
update account_use set stored_runs = stored_runs - 1 where account = :account;

-- name: stored_runs(account)$
select stored_runs from account_use where account = :account;

-- name: removable_runs(account, limit)
select id from run
where account = :account and retention_mode = 'REMOVE' and delete_wished_ms is null
    and status in ('COMPLETED', 'FAILED', 'CANCELLED')
order by id limit :limit;
