-- Cells: the Fly apps that a stack's sandboxes live in. Controllers name those that they start sandboxes in; one that is named no more is
-- closed, and stays here until nothing lives in it: so that no setting that was changed makes anyone forget what still runs.

create table public.cells (
  app text primary key,
  stack text not null,
  created_at timestamptz not null
);
create index cells_by_stack on public.cells (stack, app);

-- As session_events, for what happens to cells.
create table public.cell_events (
  id bigint generated always as identity primary key,
  app text not null,
  kind text not null,
  actor text not null,
  reason text,
  -- {"cell": the changed fields}
  data jsonb not null,
  at timestamptz not null
);
create index cell_events_by_app on public.cell_events (app, id);

alter table public.cells enable row level security;
alter table public.cell_events enable row level security;
revoke all on public.cells, public.cell_events from public, anon, authenticated, service_role;
revoke all on sequence public.cell_events_id_seq from public, anon, authenticated, service_role;
grant select on public.cells, public.cell_events to service_role;

create function mobvibe.record_cell_event(
  p_kind text, p_actor text, p_reason text, p_at timestamptz, p_was public.cells, p_cell public.cells
) returns void
language sql volatile set search_path = '' as $$
  insert into public.cell_events (app, kind, actor, reason, data, at)
  values (coalesce((p_cell).app, (p_was).app), p_kind, p_actor, p_reason,
    pg_catalog.jsonb_build_object(
      'cell', mobvibe.changes(pg_catalog.to_jsonb(p_was), pg_catalog.to_jsonb(p_cell))), p_at);
$$;

-- Makes sure that these cells (a JSON list of apps) are known as the stack's. Answers all of its cells, the closed ones, too.
create function public.cells_declare(p_stack text, p_apps jsonb, p_actor text) returns setof public.cells
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_cell public.cells;
begin
  -- In one order, so that none can deadlock.
  for v_cell in
    insert into public.cells (app, stack, created_at)
    select a.app, p_stack, v_now from jsonb_array_elements_text(p_apps) a (app)
    where not exists (select from public.cells c where c.app = a.app)
    order by a.app
    on conflict (app) do nothing
    returning *
  loop
    perform mobvibe.record_cell_event('cell.declared', p_actor, null, v_now, null, v_cell);
  end loop;
  select c.* into v_cell from public.cells c
  where c.stack <> p_stack and c.app in (select jsonb_array_elements_text(p_apps)) limit 1;
  if found then
    raise exception 'The cell % belongs to the stack %', v_cell.app, v_cell.stack
      using errcode = 'PT409', detail = 'cell_taken';
  end if;
  return query select c.* from public.cells c where c.stack = p_stack order by c.app;
end $$;

-- Forgets a closed cell in which nothing lives. Answers whether it is gone.
create function public.cell_forget(p_app text, p_stack text, p_actor text) returns boolean
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_was public.cells;
begin
  delete from public.cells c
  where c.app = p_app and c.stack = p_stack
    and not exists (select from public.sandboxes b where b.app = p_app and b.state <> 'gone')
  returning * into v_was;
  if found then
    perform mobvibe.record_cell_event('cell.forgotten', p_actor, 'empty', mobvibe.now(), v_was, null);
  end if;
  return not exists (select from public.cells c where c.app = p_app and c.stack = p_stack);
end $$;

revoke all on function mobvibe.record_cell_event from public;
revoke all on function public.cells_declare, public.cell_forget from public, anon, authenticated, service_role;
grant execute on function public.cells_declare, public.cell_forget to service_role;
