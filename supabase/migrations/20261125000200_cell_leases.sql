-- A controller works for a cell under a lease. `holder` is the base URL at which other controllers reach it, and by that its identity: two
-- processes never share one, and a controller that is started again at the same address goes on at once. `token` only grows.
alter table public.cells
  add column holder text,
  add column token bigint,
  add column expires_at timestamptz,
  add check ((holder is null) = (expires_at is null)),
  add check (holder is null or token is not null);

-- The controllers of a stack that are alive, so that each can tell what its fair share of the cells is.
create table public.controllers (
  holder text primary key,
  stack text not null,
  expires_at timestamptz not null
);
alter table public.controllers enable row level security;
revoke all on public.controllers from public, anon, authenticated, service_role;
grant select on public.controllers to service_role;

-- One heartbeat of a controller: it names its stack's cells and is alive for the next p_lease_ms, and so are the leases that it still has:
-- p_held is {app: token}. One that was taken by another in the meantime, or has expired, is not revived. Answers {cells, controllers},
-- all of the stack. Leaves no event but of cells that are new.
create function public.cells_renew(
  p_stack text, p_apps jsonb, p_holder text, p_held jsonb, p_lease_ms integer, p_actor text
) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_until timestamptz := v_now + p_lease_ms * interval '1 millisecond';
begin
  perform from public.cells_declare(p_stack, p_apps, p_actor);
  insert into public.controllers (holder, stack, expires_at) values (p_holder, p_stack, v_until)
  on conflict (holder) do update set stack = excluded.stack, expires_at = excluded.expires_at;
  -- Not waited for: two that have both expired would wait for each other.
  delete from public.controllers c where c.holder in (
    select k.holder from public.controllers k where k.stack = p_stack and k.expires_at < v_now for update skip locked);
  -- In one order, so that none can deadlock.
  perform from public.cells c where c.stack = p_stack and c.holder = p_holder order by c.app for no key update;
  update public.cells c set expires_at = v_until
  where c.stack = p_stack and c.holder = p_holder and c.expires_at >= v_now
    and to_jsonb(c.token) = p_held -> c.app;
  return jsonb_build_object(
    'cells', (select coalesce(jsonb_agg(to_jsonb(c) || jsonb_build_object('free',
        c.holder is null or c.expires_at < v_now) order by c.app), '[]')
      from public.cells c where c.stack = p_stack),
    'controllers', (select jsonb_agg(k.holder order by k.holder)
      from public.controllers k where k.stack = p_stack and k.expires_at >= v_now));
end $$;

-- Takes the lease of a cell that nobody holds, or whose holder let it expire, or that is held from this very address by a process that
-- must be gone. Answers the cell as it is now: another holder means that it was not to be had.
create function public.cell_hold(p_app text, p_holder text, p_lease_ms integer, p_actor text) returns setof public.cells
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.cells;
  v_cell public.cells;
begin
  select * into v_was from public.cells where app = p_app for no key update;
  if not found then
    return;
  end if;
  if v_was.holder is not null and v_was.holder <> p_holder and v_was.expires_at >= v_now then
    return next v_was;
    return;
  end if;
  update public.cells
  set holder = p_holder, token = nextval('mobvibe.fence'), expires_at = v_now + p_lease_ms * interval '1 millisecond'
  where app = p_app
  returning * into v_cell;
  perform mobvibe.record_cell_event('cell.held', p_actor,
    case when v_was.holder is null then 'free' when v_was.expires_at < v_now then 'expired' else 'restarted' end,
    v_now, v_was, v_cell);
  return next v_cell;
end $$;

-- Gives a lease back. The token stays, so that the next one is larger; nothing is to be done under it any more.
create function public.cell_release(p_app text, p_token bigint, p_actor text) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_was public.cells;
  v_cell public.cells;
begin
  select * into v_was from public.cells where app = p_app and token = p_token and holder is not null for no key update;
  if not found then
    return;
  end if;
  update public.cells set holder = null, expires_at = null where app = p_app returning * into v_cell;
  perform mobvibe.record_cell_event('cell.released', p_actor, null, mobvibe.now(), v_was, v_cell);
end $$;

-- A controller is going: the others share what it has released.
create function public.controller_leave(p_holder text) returns void
language sql volatile security definer set search_path = '' as $$
  delete from public.controllers where holder = p_holder;
$$;

-- Refuses what is done for a cell under a lease that another has taken over: its row is locked until the change is made. Null: a controller
-- of before, which knows no leases.
create function mobvibe.check_lease(p_name text, p_lease bigint) returns void
language plpgsql volatile set search_path = '' as $$
begin
  if p_lease is null then
    return;
  end if;
  perform from public.cells c join public.sandboxes b on b.app = c.app
  where b.name = p_name and c.token = p_lease and c.holder is not null
  for share of c;
  if not found then
    raise exception 'The cell of sandbox % is not held with the token %', p_name, p_lease
      using errcode = 'PT409', detail = 'fenced';
  end if;
end $$;

-- The moves of a sandbox as before, for whoever holds its cell as well. A controller that names no lease may go on until it is replaced.
alter function public.sandbox_created(text, bigint, text, text, text) set schema mobvibe;
alter function public.sandbox_ready(text, bigint, text) set schema mobvibe;
alter function public.sandbox_destroying(text, bigint, text, text) set schema mobvibe;
alter function public.sandbox_gone(text, bigint, text, jsonb, text) set schema mobvibe;
alter function mobvibe.sandbox_created security invoker;
alter function mobvibe.sandbox_ready security invoker;
alter function mobvibe.sandbox_destroying security invoker;
alter function mobvibe.sandbox_gone security invoker;
revoke all on function mobvibe.sandbox_created, mobvibe.sandbox_ready, mobvibe.sandbox_destroying, mobvibe.sandbox_gone
  from public, anon, authenticated, service_role;

create function public.sandbox_created(
  p_name text, p_fence bigint, p_machine_id text, p_region text, p_actor text, p_lease bigint default null
) returns setof public.sandboxes
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform mobvibe.check_lease(p_name, p_lease);
  return query select * from mobvibe.sandbox_created(p_name, p_fence, p_machine_id, p_region, p_actor);
end $$;

create function public.sandbox_ready(p_name text, p_fence bigint, p_actor text, p_lease bigint default null)
returns setof public.sandboxes
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform mobvibe.check_lease(p_name, p_lease);
  return query select * from mobvibe.sandbox_ready(p_name, p_fence, p_actor);
end $$;

create function public.sandbox_destroying(
  p_name text, p_fence bigint, p_reason text, p_actor text, p_lease bigint default null
) returns setof public.sandboxes
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform mobvibe.check_lease(p_name, p_lease);
  return query select * from mobvibe.sandbox_destroying(p_name, p_fence, p_reason, p_actor);
end $$;

create function public.sandbox_gone(
  p_name text, p_fence bigint, p_reason text, p_error jsonb, p_actor text, p_lease bigint default null
) returns setof public.sandboxes
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform mobvibe.check_lease(p_name, p_lease);
  return query select * from mobvibe.sandbox_gone(p_name, p_fence, p_reason, p_error, p_actor);
end $$;

-- `session_stop` for a decision that was about this very sandbox: a newer one of the session is not stopped by it. Null where it is gone.
create function public.sandbox_stop(
  p_name text, p_fence bigint, p_reason text, p_actor text, p_lease bigint default null
) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_sandbox public.sandboxes;
begin
  perform mobvibe.check_lease(p_name, p_lease);
  v_sandbox := mobvibe.lock_sandbox(p_name, p_fence);
  if v_sandbox.state = 'gone' then
    return null;
  end if;
  return public.session_stop(v_sandbox.session_id, p_reason, p_actor);
end $$;

-- As before, but with p_apps (a JSON list) only jobs of sessions whose sandbox lives in one of these cells, or that have none.
drop function public.jobs_claim(text, integer, integer);
create function mobvibe.may_claim(p_session text, p_apps jsonb) returns boolean
language sql stable set search_path = '' as $$
  select p_apps is null or not exists (
    select from public.sandboxes b
    where b.session_id = p_session and b.state <> 'gone' and not p_apps ? b.app);
$$;

create function public.jobs_claim(p_owner text, p_lease_ms integer, p_max integer, p_apps jsonb default null)
returns setof public.jobs
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_lease_until timestamptz := v_now + p_lease_ms * interval '1 millisecond';
  v_left integer := p_max;
  v_was public.jobs;
  v_job public.jobs;
begin
  for v_was in
    select * from public.jobs where status = 'running' and lease_until < v_now and not started
    order by seq limit 100 for no key update skip locked
  loop
    perform mobvibe.return_job(v_was, 'its lease expired', v_now, v_now);
  end loop;

  for v_was in
    select * from public.jobs
    where status = 'running' and lease_until < v_now and started and mobvibe.may_claim(session_id, p_apps)
    order by seq limit v_left for no key update skip locked
  loop
    update public.jobs
    set owner = p_owner, token = nextval('mobvibe.fence'), lease_until = v_lease_until, updated_at = v_now
    where id = v_was.id
    returning * into v_job;
    perform mobvibe.record_job_event('job.claimed', 'jobs', 'the lease of its owner expired', v_now, v_was, v_job);
    v_left := v_left - 1;
    return next v_job;
  end loop;

  for v_was in
    select * from public.jobs j
    where j.status = 'queued' and j.run_at <= v_now and not exists (
      select from public.jobs e
      where e.session_id = j.session_id and e.status in ('queued', 'running') and e.seq < j.seq)
      and mobvibe.may_claim(j.session_id, p_apps)
    order by j.seq limit v_left for no key update of j skip locked
  loop
    update public.jobs
    set status = 'running', attempts = attempts + 1, owner = p_owner, token = nextval('mobvibe.fence'),
      lease_until = v_lease_until, updated_at = v_now
    where id = v_was.id
    returning * into v_job;
    perform mobvibe.record_job_event('job.claimed', 'jobs', null, v_now, v_was, v_job);
    return next v_job;
  end loop;
end $$;

revoke all on function mobvibe.check_lease, mobvibe.may_claim from public;
revoke all on function public.cells_renew, public.cell_hold, public.cell_release, public.controller_leave,
  public.sandbox_created, public.sandbox_ready, public.sandbox_destroying, public.sandbox_gone, public.sandbox_stop,
  public.jobs_claim from public, anon, authenticated, service_role;
grant execute on function public.cells_renew, public.cell_hold, public.cell_release, public.controller_leave,
  public.sandbox_created, public.sandbox_ready, public.sandbox_destroying, public.sandbox_gone, public.sandbox_stop,
  public.jobs_claim to service_role;
