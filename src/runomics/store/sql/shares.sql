-- name: insert_share(id, account, share_id, share_name, workflow_id, resource_arn, principal_subscriber, created_ms)!
insert into share (
    id, account, share_id, share_name, workflow_id, resource_arn, principal_subscriber, status, revision, created_ms, updated_ms
) values (
    :id, :account, :share_id, :share_name, :workflow_id, :resource_arn, :principal_subscriber, 'PENDING', 1, :created_ms,
    :created_ms
);

-- name: find_share(account, share_id)^
select {share} from share where share_id = :share_id and (account = :account or principal_subscriber = :account);

-- name: live_share(account, workflow_id, principal_subscriber)^
select {share} from share
where account = :account and workflow_id = :workflow_id and principal_subscriber = :principal_subscriber
    and status not in ('DELETING', 'DELETED', 'FAILED');

-- name: count_live_shares(account, workflow_id)$
select count(*) from share
where account = :account and workflow_id = :workflow_id and status not in ('DELETING', 'DELETED', 'FAILED');

-- name: shares_of_owner(account, after_id, limit)
select {share} from share where account = :account and id > :after_id order by id limit :limit;

-- name: shares_with_subscriber(account, after_id, limit)
select {share} from share where principal_subscriber = :account and id > :after_id order by id limit :limit;

-- name: load_share(id)^
select {share} from share where id = :id;

-- name: moving_shares()
select id from share where status in ('ACTIVATING', 'DELETING') order by id;

-- name: forget_shares(before_ms, limit)!
delete from share where id in (
    select id from share where status = 'DELETED' and updated_ms < :before_ms order by updated_ms limit :limit
);
