-- Sandboxes: planned → created → ready → stopping → destroying → gone; each step is safe to repeat and needs the sandbox's fence.

-- Locks a sandbox and its session, in this order, for whoever holds its fence.
create function mobvibe.lock_sandbox(p_name text, p_fence bigint) returns public.sandboxes
language plpgsql volatile set search_path = '' as $$
declare
  v_sandbox public.sandboxes;
begin
  perform from public.coding_sessions
  where id = (select b.session_id from public.sandboxes b where b.name = p_name)
  for no key update;
  select * into v_sandbox from public.sandboxes where name = p_name for no key update;
  if not found or v_sandbox.fence is distinct from p_fence then
    raise exception 'Sandbox % is not there with the fence %', p_name, p_fence
      using errcode = 'PT409', detail = 'fenced';
  end if;
  return v_sandbox;
end $$;

-- Fly has answered with the machine's id. A sandbox that is on its way out keeps its state but learns the id, so that the machine can be
-- destroyed.
create function public.sandbox_created(
  p_name text, p_fence bigint, p_machine_id text, p_region text, p_actor text
) returns setof public.sandboxes
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.sandboxes := mobvibe.lock_sandbox(p_name, p_fence);
  v_sandbox public.sandboxes;
  v_session_was public.coding_sessions;
  v_session public.coding_sessions;
begin
  if v_was.machine_id = p_machine_id then
    return next v_was;
    return;
  end if;
  if v_was.machine_id is not null or v_was.state = 'gone' then
    raise exception 'Sandbox % is % with the machine %, not %', p_name, v_was.state, v_was.machine_id, p_machine_id
      using errcode = 'PT409', detail = 'fenced';
  end if;

  update public.sandboxes
  set state = case state when 'planned' then 'created' else state end,
    machine_id = p_machine_id, region = p_region, updated_at = v_now
  where name = p_name
  returning * into v_sandbox;
  select * into v_session_was from public.coding_sessions where id = v_was.session_id;
  v_session := v_session_was;
  if v_was.state = 'planned' then
    update public.coding_sessions
    set sandbox_id = p_machine_id, sandbox_region = p_region, updated_at = v_now
    where id = v_was.session_id
    returning * into v_session;
  end if;
  perform mobvibe.record_event(
    v_was.session_id, p_name, 'sandbox.created', p_actor, null, v_now,
    jsonb_build_object(
      'session', mobvibe.changes(to_jsonb(v_session_was), to_jsonb(v_session)),
      'sandbox', mobvibe.changes(to_jsonb(v_was), to_jsonb(v_sandbox))));
  return next v_sandbox;
end $$;

-- The agent is connected and the files are restored.
create function public.sandbox_ready(p_name text, p_fence bigint, p_actor text) returns setof public.sandboxes
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.sandboxes := mobvibe.lock_sandbox(p_name, p_fence);
  v_sandbox public.sandboxes;
  v_session_was public.coding_sessions;
  v_session public.coding_sessions;
begin
  if v_was.state = 'ready' then
    return next v_was;
    return;
  end if;
  if v_was.state <> 'created' then
    raise exception 'Sandbox % is %; only a created one becomes ready', p_name, v_was.state
      using errcode = 'PT409', detail = 'fenced';
  end if;

  update public.sandboxes set state = 'ready', ready_at = v_now, updated_at = v_now
  where name = p_name
  returning * into v_sandbox;
  select * into v_session_was from public.coding_sessions where id = v_was.session_id;
  update public.coding_sessions set status = 'ready', updated_at = v_now
  where id = v_was.session_id
  returning * into v_session;
  perform mobvibe.record_event(
    v_was.session_id, p_name, 'sandbox.ready', p_actor, null, v_now,
    jsonb_build_object(
      'session', mobvibe.changes(to_jsonb(v_session_was), to_jsonb(v_session)),
      'sandbox', mobvibe.changes(to_jsonb(v_was), to_jsonb(v_sandbox))));
  return next v_sandbox;
end $$;

-- The machine is to be destroyed: its files are saved, or given up. The first reason for leaving stays in the row.
create function public.sandbox_destroying(
  p_name text, p_fence bigint, p_reason text, p_actor text
) returns setof public.sandboxes
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.sandboxes := mobvibe.lock_sandbox(p_name, p_fence);
  v_sandbox public.sandboxes;
  v_session_was public.coding_sessions;
  v_session public.coding_sessions;
begin
  if v_was.state in ('destroying', 'gone') then
    return next v_was;
    return;
  end if;

  update public.sandboxes set state = 'destroying', reason = coalesce(reason, p_reason), updated_at = v_now
  where name = p_name
  returning * into v_sandbox;
  select * into v_session_was from public.coding_sessions where id = v_was.session_id;
  update public.coding_sessions set status = 'stopping', updated_at = v_now
  where id = v_was.session_id
  returning * into v_session;
  perform mobvibe.record_event(
    v_was.session_id, p_name, 'sandbox.destroying', p_actor, p_reason, v_now,
    jsonb_build_object(
      'session', mobvibe.changes(to_jsonb(v_session_was), to_jsonb(v_session)),
      'sandbox', mobvibe.changes(to_jsonb(v_was), to_jsonb(v_sandbox))));
  return next v_sandbox;
end $$;

-- Nothing of the machine is left. The session may be opened again; with p_error ({code, detail}) it counts as failed until then.
create function public.sandbox_gone(
  p_name text, p_fence bigint, p_reason text, p_error jsonb, p_actor text
) returns setof public.sandboxes
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.sandboxes := mobvibe.lock_sandbox(p_name, p_fence);
  v_sandbox public.sandboxes;
  v_session_was public.coding_sessions;
  v_session public.coding_sessions;
begin
  if v_was.state = 'gone' then
    return next v_was;
    return;
  end if;

  update public.sandboxes
  set state = 'gone', reason = coalesce(reason, p_reason), gone_at = v_now, updated_at = v_now
  where name = p_name
  returning * into v_sandbox;
  -- Only the newest incarnation can be live, so the session's row is about this one.
  select * into v_session_was from public.coding_sessions where id = v_was.session_id;
  update public.coding_sessions
  set status = case when p_error is null then 'stopped' else 'failed' end, error = p_error,
    sandbox_id = null, sandbox_region = null, updated_at = v_now
  where id = v_was.session_id and incarnation = v_was.incarnation
  returning * into strict v_session;
  perform mobvibe.record_event(
    v_was.session_id, p_name, 'sandbox.gone', p_actor, p_reason, v_now,
    jsonb_build_object(
      'session', mobvibe.changes(to_jsonb(v_session_was), to_jsonb(v_session)),
      'sandbox', mobvibe.changes(to_jsonb(v_was), to_jsonb(v_sandbox))));
  return next v_sandbox;
end $$;

revoke all on function mobvibe.lock_sandbox from public;
revoke all on function public.sandbox_created, public.sandbox_ready, public.sandbox_destroying, public.sandbox_gone
  from public, anon, authenticated, service_role;
grant execute on function public.sandbox_created, public.sandbox_ready, public.sandbox_destroying, public.sandbox_gone
  to service_role;
