-- name: insert_image(account, run_id, name, image, location, digest, resolved_ms)!
insert into image (account, run_id, name, image, location, digest, resolved_ms)
values (:account, :run_id, :name, :image, :location, :digest, :resolved_ms)
on conflict (run_id, name) do nothing;

-- name: find_image(run_id, name)^
select {image} from image where run_id = :run_id and name = :name;

-- The cross join keeps SQLite, which knows no sizes, from walking over the images of ended runs.

-- name: digests_of_active_runs()
select image.digest from run cross join image
where image.run_id = run.id and run.status not in ('PENDING', 'COMPLETED', 'FAILED', 'CANCELLED', 'DELETED');
