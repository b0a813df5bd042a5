-- name: insert_version(id, account, workflow_id, version_name, uuid, description, engine, main, definition_sha256, definition_uri, parameter_template, template_given, storage_type, storage_capacity_gib, accelerators, tags, extra, readme, created_ms)!
insert into workflow_version (
    id, account, workflow_id, version_name, uuid, description, status, engine, main, definition_sha256, definition_uri,
    parameter_template, template_given, storage_type, storage_capacity_gib, accelerators, tags, extra, readme, revision, created_ms
) values (
    :id, :account, :workflow_id, :version_name, :uuid, :description, 'CREATING', :engine, :main, :definition_sha256,
    :definition_uri, :parameter_template, :template_given, :storage_type, :storage_capacity_gib, :accelerators, :tags, :extra,
    :readme, 1, :created_ms
);

-- name: find_version(account, workflow_id, version_name)^
select {version} from workflow_version
where workflow_id = :workflow_id and version_name = :version_name and account = :account;

-- name: count_versions(account, workflow_id)$
select count(*) from workflow_version where account = :account and workflow_id = :workflow_id;

-- name: load_version(id)^
select {version} from workflow_version where id = :id;

-- name: creating_versions()
select id from workflow_version where status = 'CREATING' order by id;

-- name: delete_version(id, revision)!
delete from workflow_version where id = :id and revision = :revision;
