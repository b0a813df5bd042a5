-- What a task used, beside its cpu seconds and its peak of memory.

alter table task add column cpus_maximum double precision;      -- CPUs in use in the busiest minute
alter table task add column memory_average_bytes bigint;        -- mean over its minutes
alter table task add column scratch_gib bigint;                 -- size of its own /tmp; null: it lies on the run's storage
alter table task add column scratch_used_bytes bigint;          -- most that its own /tmp held
