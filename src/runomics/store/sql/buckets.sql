-- name: add_bucket(bucket, account, created_ms)!
insert into bucket (bucket, account, created_ms) values (:bucket, :account, :created_ms);

-- name: claim_bucket(bucket, account, created_ms)!
insert into bucket (bucket, account, created_ms) values (:bucket, :account, :created_ms) on conflict (bucket) do nothing;

-- name: find_bucket(bucket)^
select {bucket} from bucket where bucket = :bucket;

-- name: list_buckets()
select {bucket} from bucket order by bucket;

-- name: open_bucket(bucket, account, created_ms)!
insert into bucket_reader (bucket, account, created_ms) values (:bucket, :account, :created_ms)
on conflict (bucket, account) do nothing;

-- name: is_open_to(bucket, account, everyone)$
select 1 from bucket_reader where bucket = :bucket and account in (:account, :everyone) limit 1;

-- name: list_readers()
select bucket, account from bucket_reader order by bucket, account;
