-- What access keys may do, and whose the buckets of the folder store are.

alter table access_key add column policy text; -- a managed policy's name or an IAM policy document; null: everything

create table bucket (
    bucket text primary key,            -- the folder's name
    account text not null,              -- whose it is: whom it was made for, or who used it first
    created_ms bigint not null          -- when it became theirs
);

create table bucket_reader (
    bucket text not null,               -- a bucket that somebody owns
    account text not null,              -- who may read it too; *: everyone
    created_ms bigint not null,         -- when it was opened to them
    primary key (bucket, account)
);
