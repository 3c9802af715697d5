-- Sessions. Every function here and in the next file locks the session's row first, then its sandbox's, so none can deadlock, and the
-- events of a session have the order in which its transitions happened.

-- Makes sure that the session has a sandbox: creates the session where it is new (p_settings not null), plans a sandbox where it has none.
-- Answers {session, sandbox, created: the session is new, opened: the sandbox is new}.
create function public.session_open(p_id text, p_settings jsonb, p_app text, p_actor text) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_created boolean := false;
  v_was public.coding_sessions;
  v_session public.coding_sessions;
  v_sandbox public.sandboxes;
begin
  if p_settings is not null then
    insert into public.coding_sessions
      (id, settings, status, incarnation, fence, last_active_at, created_at, updated_at)
    values (p_id, p_settings, 'starting', 1, nextval('mobvibe.fence'), v_now, v_now, v_now)
    on conflict (id) do nothing
    returning * into v_session;
    v_created := found;
  end if;

  if not v_created then
    select * into v_was from public.coding_sessions where id = p_id for no key update;
    if not found then
      raise exception 'There is no session %', p_id using errcode = 'PT404', detail = 'session_not_found';
    end if;
    if p_settings is not null and p_settings <> v_was.settings then
      raise exception 'Session % exists with the settings %', p_id, v_was.settings
        using errcode = 'PT409', detail = 'session_conflict';
    end if;
    if v_was.status = 'stopping' then
      raise exception 'Session % is being stopped', p_id using errcode = 'PT409', detail = 'session_stopping';
    end if;
    if v_was.status in ('starting', 'ready') then
      select * into strict v_sandbox from public.sandboxes where session_id = p_id and state <> 'gone';
      return jsonb_build_object('session', v_was, 'sandbox', v_sandbox, 'created', false, 'opened', false);
    end if;
    update public.coding_sessions
    set status = 'starting', incarnation = incarnation + 1, fence = nextval('mobvibe.fence'), error = null,
      last_active_at = v_now, updated_at = v_now
    where id = p_id
    returning * into v_session;
  end if;

  insert into public.sandboxes (name, session_id, incarnation, fence, app, state, created_at, updated_at)
  values (format('s-%s-%s', p_id, v_session.incarnation), p_id, v_session.incarnation, v_session.fence, p_app,
    'planned', v_now, v_now)
  returning * into v_sandbox;
  perform mobvibe.record_event(
    p_id, v_sandbox.name, case when v_created then 'session.created' else 'sandbox.planned' end, p_actor, null, v_now,
    jsonb_build_object(
      'session', mobvibe.changes(to_jsonb(v_was), to_jsonb(v_session)),
      'sandbox', to_jsonb(v_sandbox)));
  return jsonb_build_object('session', v_session, 'sandbox', v_sandbox, 'created', v_created, 'opened', true);
end $$;

-- Begins the end of the session's sandbox: its files are to be saved where it was ready. Answers {session, sandbox: the live one or null}.
create function public.session_stop(p_id text, p_reason text, p_actor text) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.coding_sessions;
  v_session public.coding_sessions;
  v_sandbox_was public.sandboxes;
  v_sandbox public.sandboxes;
begin
  select * into v_was from public.coding_sessions where id = p_id for no key update;
  if not found then
    raise exception 'There is no session %', p_id using errcode = 'PT404', detail = 'session_not_found';
  end if;
  select * into v_sandbox_was from public.sandboxes where session_id = p_id and state <> 'gone' for no key update;
  if v_was.status not in ('starting', 'ready') then
    return jsonb_build_object(
      'session', v_was,
      'sandbox', case when v_sandbox_was.name is not null then to_jsonb(v_sandbox_was) end);
  end if;

  update public.coding_sessions set status = 'stopping', updated_at = v_now where id = p_id returning * into v_session;
  update public.sandboxes
  set state = case state when 'ready' then 'stopping' else 'destroying' end, reason = p_reason, updated_at = v_now
  where name = v_sandbox_was.name
  returning * into strict v_sandbox;
  perform mobvibe.record_event(
    p_id, v_sandbox.name, 'session.stopping', p_actor, p_reason, v_now,
    jsonb_build_object(
      'session', mobvibe.changes(to_jsonb(v_was), to_jsonb(v_session)),
      'sandbox', mobvibe.changes(to_jsonb(v_sandbox_was), to_jsonb(v_sandbox))));
  return jsonb_build_object('session', v_session, 'sandbox', v_sandbox);
end $$;

-- The session is being used now. Called often, so it writes at most once a second and leaves no event.
create function public.session_touch(p_id text) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
begin
  update public.coding_sessions set last_active_at = v_now
  where id = p_id and last_active_at <= v_now - interval '1 second';
  if not found and not exists (select from public.coding_sessions where id = p_id) then
    raise exception 'There is no session %', p_id using errcode = 'PT404', detail = 'session_not_found';
  end if;
end $$;

revoke all on function public.session_open, public.session_stop, public.session_touch
  from public, anon, authenticated, service_role;
grant execute on function public.session_open, public.session_stop, public.session_touch to service_role;
