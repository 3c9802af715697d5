-- A small schema that has one of everything that the gateway must deliver.
create schema mobvibe;
grant usage on schema mobvibe to service_role;
create function mobvibe.now() returns timestamptz language sql stable
  return coalesce(nullif(current_setting('mobvibe.now', true), '')::timestamptz, clock_timestamp());

create table public.items (
  id int primary key, name text, kind text, price numeric, "odd ""column" text, data jsonb,
  big bigint default 9007199254740993, made_at timestamptz not null default '2026-11-22T20:37:11.882Z'
);
alter table public.items enable row level security;
grant select on public.items to service_role;
insert into public.items (id, name, kind, price, "odd ""column", data) values
  (1, 'plain', 'a', 1.5, 'x', '{"k": 1}'),
  (2, 'with, comma', 'a', 2.5, null, null),
  (3, 'with "quotes" and \back', 'b', 3.5, 'y', '[1, 2]'),
  (4, 'per%cent_', 'b', null, null, 'null'),
  (5, null, null, 0, null, null),
  (6, '{brace}', 'c', 9, null, null);

create table public.many as select n from generate_series(1, 1500) as n;
grant select on public.many to service_role;

create table public.secrets (id int);

create table public.calls (id int generated always as identity, note text);
grant select on public.calls to service_role;

create function public.items_of(p_kind text, p_limit int default 10) returns setof public.items
  language sql stable security definer set search_path = '' as
  $$ select * from public.items where kind = p_kind order by id limit p_limit $$;
create function public.item_of(p_id int) returns public.items
  language sql stable security definer set search_path = '' as
  $$ select i from public.items i where id = p_id $$;
create function public.pairs() returns table (left_side int, right_side text)
  language sql stable as $$ values (1, 'one'), (2, 'two') $$;
create function public.numbers(p_max int) returns setof int
  language sql stable as $$ select generate_series(1, p_max) $$;
create function public.add(a int, b int) returns int language sql immutable as $$ select a + b $$;
create function public.echo(p jsonb) returns jsonb language sql immutable as $$ select p $$;
create function public.echo_text(p text) returns text language sql immutable as $$ select p $$;
create function public.echo_list(p text[]) returns text[] language sql immutable as $$ select p $$;
create function public.who() returns jsonb language sql stable as
  $$ select jsonb_build_object('user', current_user, 'claims', current_setting('request.jwt.claims')::jsonb,
       'timeout', current_setting('statement_timeout')) $$;
create function public.clock() returns timestamptz language sql stable security definer as $$ select mobvibe.now() $$;
create function public.note_call(p_note text) returns void
  language sql security definer set search_path = '' as $$ insert into public.calls (note) values (p_note) $$;
create function public.note_all(p_notes text[]) returns setof public.calls
  language sql security definer set search_path = '' as
  $$ insert into public.calls (note) select unnest(p_notes) returning * $$;
create function public.fail_with(p_state text) returns void language plpgsql as
  $$ begin raise exception 'refused: %', p_state using errcode = p_state, detail = 'the_code', hint = 'a hint'; end $$;
create function public.slow(p_seconds float) returns void language sql as $$ select pg_sleep(p_seconds) $$;
create function public.loose(variadic p int[]) returns int language sql as $$ select 1 $$;
create function public.overloaded(a int) returns text language sql as $$ select 'int' $$;
create function public.overloaded(a int, b int default 0) returns text language sql as $$ select 'two' $$;

revoke execute on all functions in schema public from public, anon, authenticated;
grant execute on all functions in schema public to service_role;
grant execute on function public.add(int, int), public.slow(float) to anon;

-- The connection breaks within the call, or within its commit.
create function public.break_off() returns void language sql security definer set search_path = '' as
  'select pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()), pg_catalog.pg_sleep(5)';
create table public.fragile (id int);
create function public.break_trigger() returns trigger language plpgsql security definer set search_path = '' as
  'begin perform public.break_off(); return null; end';
create constraint trigger break_at_commit after insert on public.fragile
  deferrable initially deferred for each row execute function public.break_trigger();
create function public.break_at_commit() returns void language sql security definer set search_path = '' as
  'insert into public.fragile values (1)';
grant execute on function public.break_off, public.break_at_commit to service_role;
