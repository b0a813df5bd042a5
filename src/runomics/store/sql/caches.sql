-- name: insert_cache(id, account, uuid, name, description, cache_behavior, cache_s3_uri, cache_bucket_owner_id, tags, created_ms)!
insert into run_cache (
    id, account, uuid, name, description, cache_behavior, cache_s3_uri, cache_bucket_owner_id, tags, created_ms
) values (
    :id, :account, :uuid, :name, :description, :cache_behavior, :cache_s3_uri, :cache_bucket_owner_id, :tags, :created_ms
);

-- name: find_cache(account, id)^
select {cache} from run_cache where id = :id and account = :account;

-- name: count_caches(account)$
select count(*) from run_cache where account = :account;

-- name: update_cache(account, id, name, description, cache_behavior)!
update run_cache set
    name = coalesce(:name, name), description = coalesce(:description, description),
    cache_behavior = coalesce(:cache_behavior, cache_behavior)
where id = :id and account = :account;

-- name: delete_cache(account, id)!
delete from run_cache where id = :id and account = :account;

-- name: open_run_with_cache(id)$
select id from run
where run_cache_id = :id and status not in ('COMPLETED', 'FAILED', 'CANCELLED', 'DELETED')
limit 1;
