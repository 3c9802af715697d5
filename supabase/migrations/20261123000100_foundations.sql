-- What the other migrations stand on. The schema `mobvibe` is not exposed by the API: only our functions use it.

create schema mobvibe;
revoke all on schema mobvibe from public;

-- Where all our functions take the time from. A test sets `mobvibe.now` in its database session to stop or move the clock.
create function mobvibe.now() returns timestamptz
language sql volatile set search_path = '' as $$
  select coalesce(
    nullif(pg_catalog.current_setting('mobvibe.now', true), '')::timestamptz,
    pg_catalog.clock_timestamp());
$$;

-- Fencing tokens of sandboxes and of jobs' claims: a later one is always larger.
create sequence mobvibe.fence as bigint;

-- The fields of a row that a change has set; all of them when the row is new.
create function mobvibe.changes(p_old jsonb, p_new jsonb) returns jsonb
language sql immutable set search_path = '' as $$
  select coalesce(pg_catalog.jsonb_object_agg(n.key, n.value), '{}')
  from pg_catalog.jsonb_each(p_new) n
  where p_old is null or p_old -> n.key is distinct from n.value;
$$;

revoke all on function mobvibe.now, mobvibe.changes from public;
