-- name: find_token(account, operation, token)^
select {token} from request_token where account = :account and operation = :operation and token = :token;

-- name: keep_token(account, operation, token, body_hash, answer, created_ms)!
insert into request_token (account, operation, token, body_hash, answer, created_ms)
values (:account, :operation, :token, :body_hash, :answer, :created_ms);

-- name: forget_tokens(before_ms, limit)!
delete from request_token where (account, operation, token) in (
    select account, operation, token from request_token where created_ms < :before_ms order by created_ms limit :limit
);
