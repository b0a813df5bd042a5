-- Tags belong to clients: a change moves no revision, so that no step under way is refused for it.

-- name: tags_of_run(account, id)$
select tags from run where id = :id and account = :account and delete_wished_ms is null;

-- name: set_tags_of_run(account, id, tags)!
update run set tags = :tags where id = :id and account = :account and delete_wished_ms is null;

-- name: tags_of_group(account, id)$
select tags from run_group where id = :id and account = :account;

-- name: set_tags_of_group(account, id, tags)!
update run_group set tags = :tags where id = :id and account = :account;

-- name: tags_of_cache(account, id)$
select tags from run_cache where id = :id and account = :account;

-- name: set_tags_of_cache(account, id, tags)!
update run_cache set tags = :tags where id = :id and account = :account;

-- name: tags_of_batch(account, id)$
select tags from run_batch where id = :id and account = :account and delete_wished_ms is null;

-- name: set_tags_of_batch(account, id, tags)!
update run_batch set tags = :tags where id = :id and account = :account and delete_wished_ms is null;

-- name: tags_of_workflow(account, id)$
select tags from workflow where id = :id and account = :account;

-- name: set_tags_of_workflow(account, id, tags)!
update workflow set tags = :tags where id = :id and account = :account;

-- name: tags_of_version(account, id, name)$
select tags from workflow_version where workflow_id = :id and version_name = :name and account = :account;

-- name: set_tags_of_version(account, id, name, tags)!
update workflow_version set tags = :tags where workflow_id = :id and version_name = :name and account = :account;

-- name: tags_of_configuration(account, name)$
select tags from configuration where account = :account and name = :name;

-- name: set_tags_of_configuration(account, name, tags)!
update configuration set tags = :tags where account = :account and name = :name;
