-- name: insert_configuration(id, account, name, uuid, description, run_configurations, tags, created_ms)!
insert into configuration (
    id, account, name, uuid, description, status, run_configurations, tags, revision, created_ms
) values (
    :id, :account, :name, :uuid, :description, 'CREATING', :run_configurations, :tags, 1, :created_ms
);

-- name: find_configuration(account, name)^
select {configuration} from configuration where account = :account and name = :name;

-- name: count_configurations(account)$
select count(*) from configuration where account = :account;

-- name: delete_configuration(id, revision)!
delete from configuration where id = :id and revision = :revision;

-- name: open_run_with_configuration(id)$
select id from run
where configuration_id = :id and status not in ('COMPLETED', 'FAILED', 'CANCELLED', 'DELETED')
limit 1;

-- name: load_configuration(id)^
select {configuration} from configuration where id = :id;

-- name: creating_configurations()
select id from configuration where status = 'CREATING' order by id;
