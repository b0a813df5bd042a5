-- name: insert_workflow(id, account, uuid, name, description, type, engine, main, definition_sha256, definition_uri, parameter_template, template_given, storage_type, storage_capacity_gib, accelerators, tags, extra, readme, created_ms)!
insert into workflow (
    id, account, uuid, name, description, type, status, engine, main, definition_sha256, definition_uri, parameter_template,
    template_given, storage_type, storage_capacity_gib, accelerators, tags, extra, readme, revision, created_ms
) values (
    :id, :account, :uuid, :name, :description, :type, 'CREATING', :engine, :main, :definition_sha256, :definition_uri,
    :parameter_template, :template_given, :storage_type, :storage_capacity_gib, :accelerators, :tags, :extra, :readme, 1,
    :created_ms
);

-- name: find_workflow(account, id)^
select {workflow} from workflow where id = :id and account = :account;

-- name: count_workflows(account)$
select count(*) from workflow where account = :account;

-- name: load_workflow(id)^
select {workflow} from workflow where id = :id;

-- name: creating_workflows()
select id from workflow where status = 'CREATING' order by id;

-- name: delete_workflow(id, revision)!
delete from workflow where id = :id and revision = :revision;

-- The last condition is no plain comparison, or SQLite would put :sha256 into the one before it and have no index for it.

-- name: definition_in_use(sha256)$
select exists (select 1 from workflow where definition_sha256 = :sha256)
    or exists (select 1 from workflow_version where definition_sha256 = :sha256)
    or exists (
        select 1 from run
        where substr(definition_sha256, 1, 8) = substr(:sha256, 1, 8) and definition_sha256 || '' = :sha256
    );
