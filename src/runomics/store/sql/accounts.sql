-- name: add_account(account, name, created_ms)!
insert into account (account, name, created_ms) values (:account, :name, :created_ms);

-- name: find_account(account)^
select {account} from account where account = :account;

-- name: list_accounts()
select {account} from account order by account;

-- name: add_key(key_id, account, secret, principal_arn, created_ms, status, policy)!
insert into access_key (key_id, account, secret, principal_arn, status, created_ms, policy)
values (:key_id, :account, :secret, :principal_arn, :status, :created_ms, :policy);

-- name: find_key(key_id)^
select {access_key} from access_key where key_id = :key_id;

-- name: list_keys()
select {access_key} from access_key order by key_id;

-- name: disable_key(key_id)!
update access_key set status = 'DISABLED' where key_id = :key_id;
