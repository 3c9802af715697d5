-- A stop is a barrier, a save that fails keeps its sandbox, and a machine that Fly will not destroy does not block its session.
-- New parameters have defaults: a controller of before goes on working until it is replaced.

alter table public.coding_sessions drop constraint coding_sessions_status_check;
alter table public.coding_sessions
  add check (status in ('stopped', 'starting', 'ready', 'unresponsive', 'stopping', 'failed')),
  -- Whether the files of the newest sandbox can be saved; see SaveState in controller/store/rows.ts.
  add column save jsonb not null default '{"state": "ok", "since": null, "code": null, "detail": null}'
    check (save ->> 'state' in ('ok', 'failing')),
  -- Saves that failed in a row. Counted without events.
  add column save_attempts integer not null default 0;

alter table public.sandboxes
  -- When its stop was committed, and from when on that can't be cancelled any more: its agent may have been sealed.
  add column stopping_at timestamptz,
  add column sealing_at timestamptz,
  add column grace_ms integer check (grace_ms >= 0),
  -- A caller has said that what can't be saved may be lost.
  add column discard_unsaved boolean not null default false,
  -- Which version it begins with; null: the newest.
  add column restore_version bigint check (restore_version >= 1),
  add column unresponsive_since timestamptz,
  -- Of the latest restart of its agent that was told.
  add column agent_boot text;

-- At most one incarnation that may still change something. One that is being destroyed is saved, or given up, and sealed by its fence.
drop index public.sandboxes_one_live;
create unique index sandboxes_one_live on public.sandboxes (session_id) where state not in ('destroying', 'gone');
create index sandboxes_by_start on public.sandboxes (session_id, created_at);

-- The sandbox that may serve the session, of which there is one at most; all null where there is none.
create function mobvibe.live_sandbox(p_session text) returns public.sandboxes
language plpgsql volatile set search_path = '' as $$
declare
  v_sandbox public.sandboxes;
begin
  select * into v_sandbox from public.sandboxes
  where session_id = p_session and state not in ('destroying', 'gone')
  for no key update;
  return v_sandbox;
end $$;

create function mobvibe.record_move(
  p_kind text, p_actor text, p_reason text, p_at timestamptz,
  p_session_was public.coding_sessions, p_session public.coding_sessions,
  p_sandbox_was public.sandboxes, p_sandbox public.sandboxes, p_more jsonb default '{}'
) returns void
language sql volatile set search_path = '' as $$
  select mobvibe.record_event(
    (p_session).id, (p_sandbox).name, p_kind, p_actor, p_reason, p_at,
    pg_catalog.jsonb_build_object(
      'session', mobvibe.changes(pg_catalog.to_jsonb(p_session_was), pg_catalog.to_jsonb(p_session)) - 'save_attempts',
      'sandbox', mobvibe.changes(pg_catalog.to_jsonb(p_sandbox_was), pg_catalog.to_jsonb(p_sandbox))) || p_more);
$$;

-- As before, and: a stop that is not sealed yet is cancelled, unless it was for the sandbox's age; a session whose old machine is only being
-- destroyed gets a new one at once. p_version: the new sandbox begins with this version of the files. p_starts_per_hour: of this session.
-- Answers {session, sandbox, created, opened, canceled}.
drop function public.session_open(text, jsonb, text, text);
create function public.session_open(
  p_id text, p_settings jsonb, p_app text, p_actor text, p_version bigint default null,
  p_starts_per_hour integer default null
) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_created boolean := false;
  v_was public.coding_sessions;
  v_session public.coding_sessions;
  v_sandbox_was public.sandboxes;
  v_sandbox public.sandboxes;
  v_starts integer;
  v_first timestamptz;
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
    v_sandbox_was := mobvibe.live_sandbox(p_id);
    if v_sandbox_was.state = 'stopping' then
      if v_sandbox_was.sealing_at is not null or v_sandbox_was.reason = 'max_age' then
        raise exception 'Session % is being stopped', p_id using errcode = 'PT409', detail = 'session_stopping';
      end if;
      update public.sandboxes
      set state = 'ready', reason = null, stopping_at = null, grace_ms = null, discard_unsaved = false, updated_at = v_now
      where name = v_sandbox_was.name
      returning * into v_sandbox;
      update public.coding_sessions
      set status = case when v_sandbox.unresponsive_since is null then 'ready' else 'unresponsive' end,
        last_active_at = v_now, updated_at = v_now
      where id = p_id
      returning * into v_session;
      perform mobvibe.record_move(
        'session.stop_canceled', p_actor, null, v_now, v_was, v_session, v_sandbox_was, v_sandbox);
      return jsonb_build_object(
        'session', v_session, 'sandbox', v_sandbox, 'created', false, 'opened', false, 'canceled', true);
    end if;
    if v_sandbox_was.name is not null then
      return jsonb_build_object(
        'session', v_was, 'sandbox', v_sandbox_was, 'created', false, 'opened', false, 'canceled', false);
    end if;
    if p_version is not null
      and not exists (select from public.manifests where session_id = p_id and version = p_version) then
      raise exception 'Session % has no version %', p_id, p_version using errcode = 'PT404', detail = 'version_not_found';
    end if;
    select count(*), min(created_at) into v_starts, v_first from public.sandboxes
    where session_id = p_id and created_at > v_now - interval '1 hour';
    if v_starts >= p_starts_per_hour then
      -- The hint is when to come back, in milliseconds.
      raise exception 'Session % was started % times within an hour', p_id, v_starts
        using errcode = 'PT429', detail = 'too_many_starts',
          hint = ceil(extract(epoch from v_first + interval '1 hour' - v_now) * 1000)::bigint::text;
    end if;
    update public.coding_sessions
    set status = 'starting', incarnation = incarnation + 1, fence = nextval('mobvibe.fence'), error = null,
      sandbox_id = null, sandbox_region = null, save = default, save_attempts = 0,
      last_active_at = v_now, updated_at = v_now
    where id = p_id
    returning * into v_session;
  elsif p_version is not null then
    raise exception 'Session % is new and has no version %', p_id, p_version
      using errcode = 'PT404', detail = 'version_not_found';
  end if;

  insert into public.sandboxes
    (name, session_id, incarnation, fence, app, state, restore_version, created_at, updated_at)
  values (format('s-%s-%s', p_id, v_session.incarnation), p_id, v_session.incarnation, v_session.fence, p_app,
    'planned', p_version, v_now, v_now)
  returning * into v_sandbox;
  perform mobvibe.record_move(
    case when v_created then 'session.created' else 'sandbox.planned' end, p_actor, null, v_now,
    v_was, v_session, null, v_sandbox);
  return jsonb_build_object(
    'session', v_session, 'sandbox', v_sandbox, 'created', v_created, 'opened', true, 'canceled', false);
end $$;

-- Begins the end of the session's sandbox. From now on no controller gives it new work. p_grace_ms: between SIGTERM and SIGKILL to what
-- still runs. p_discard: what can't be saved may be lost; this can be said of a stop under way, too.
-- Answers {session, sandbox: the one that is stopped, or is being destroyed, or null}.
drop function public.session_stop(text, text, text);
create function public.session_stop(
  p_id text, p_reason text, p_actor text, p_grace_ms integer default null, p_discard boolean default false
) returns jsonb
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
  v_sandbox_was := mobvibe.live_sandbox(p_id);
  if v_sandbox_was.name is null then
    select * into v_sandbox from public.sandboxes
    where session_id = p_id and incarnation = v_was.incarnation and state <> 'gone';
    return jsonb_build_object('session', v_was, 'sandbox', case when v_sandbox.name is not null then to_jsonb(v_sandbox) end);
  end if;
  if v_sandbox_was.state = 'stopping' then
    if not p_discard or v_sandbox_was.discard_unsaved then
      return jsonb_build_object('session', v_was, 'sandbox', v_sandbox_was);
    end if;
    update public.sandboxes set discard_unsaved = true, updated_at = v_now
    where name = v_sandbox_was.name
    returning * into v_sandbox;
    perform mobvibe.record_move(
      'session.discard_allowed', p_actor, p_reason, v_now, v_was, v_was, v_sandbox_was, v_sandbox);
    return jsonb_build_object('session', v_was, 'sandbox', v_sandbox);
  end if;

  update public.coding_sessions set status = 'stopping', updated_at = v_now where id = p_id returning * into v_session;
  update public.sandboxes
  set state = case state when 'ready' then 'stopping' else 'destroying' end, reason = p_reason, stopping_at = v_now,
    grace_ms = p_grace_ms, discard_unsaved = p_discard, updated_at = v_now
  where name = v_sandbox_was.name
  returning * into strict v_sandbox;
  perform mobvibe.record_move(
    'session.stopping', p_actor, p_reason, v_now, v_was, v_session, v_sandbox_was, v_sandbox);
  return jsonb_build_object('session', v_session, 'sandbox', v_sandbox);
end $$;

-- As before; a sandbox that is only being destroyed is not what serves its session any more.
create or replace function public.sandbox_stop(
  p_name text, p_fence bigint, p_reason text, p_actor text, p_lease bigint default null
) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_sandbox public.sandboxes;
begin
  perform mobvibe.check_lease(p_name, p_lease);
  v_sandbox := mobvibe.lock_sandbox(p_name, p_fence);
  if v_sandbox.state in ('destroying', 'gone') then
    return null;
  end if;
  return public.session_stop(v_sandbox.session_id, p_reason, p_actor);
end $$;

-- The agent is about to be sealed: from here on the stop can't be cancelled.
create function public.sandbox_sealing(
  p_name text, p_fence bigint, p_actor text, p_lease bigint default null
) returns setof public.sandboxes
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.sandboxes;
  v_sandbox public.sandboxes;
  v_session public.coding_sessions;
begin
  perform mobvibe.check_lease(p_name, p_lease);
  v_was := mobvibe.lock_sandbox(p_name, p_fence);
  if v_was.state <> 'stopping' then
    raise exception 'Sandbox % is %, not stopping', p_name, v_was.state using errcode = 'PT409', detail = 'fenced';
  end if;
  if v_was.sealing_at is not null then
    return next v_was;
    return;
  end if;
  update public.sandboxes set sealing_at = v_now, updated_at = v_now where name = p_name returning * into v_sandbox;
  select * into v_session from public.coding_sessions where id = v_was.session_id;
  perform mobvibe.record_move('sandbox.sealing', p_actor, null, v_now, v_session, v_session, v_was, v_sandbox);
  return next v_sandbox;
end $$;

-- As before; p_head: the version in which its last save found all of the files. Where another was committed meanwhile, that was not the last.
drop function public.sandbox_destroying(text, bigint, text, text, bigint);
create function public.sandbox_destroying(
  p_name text, p_fence bigint, p_reason text, p_actor text, p_lease bigint default null, p_head bigint default null
) returns setof public.sandboxes
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_was public.sandboxes;
  v_head bigint;
begin
  perform mobvibe.check_lease(p_name, p_lease);
  v_was := mobvibe.lock_sandbox(p_name, p_fence);
  select head into v_head from public.coding_sessions where id = v_was.session_id;
  if v_was.state not in ('destroying', 'gone') and p_head is distinct from v_head and p_head is not null then
    raise exception 'The files of sandbox % are at version %, no longer at %', p_name, v_head, p_head
      using errcode = 'PT409', detail = 'save_conflict';
  end if;
  return query select * from mobvibe.sandbox_destroying(p_name, p_fence, p_reason, p_actor);
end $$;

-- A save of this sandbox's files has failed. One event when that begins and one when its reason changes; the tries are only counted.
create function public.save_failed(
  p_name text, p_fence bigint, p_code text, p_detail text, p_actor text
) returns setof public.coding_sessions
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_sandbox public.sandboxes := mobvibe.lock_sandbox(p_name, p_fence);
  v_was public.coding_sessions;
  v_session public.coding_sessions;
begin
  if v_sandbox.state not in ('ready', 'stopping') then
    raise exception 'Sandbox % is %: nothing is saved of it', p_name, v_sandbox.state
      using errcode = 'PT409', detail = 'fenced';
  end if;
  select * into v_was from public.coding_sessions where id = v_sandbox.session_id;
  if v_was.save ->> 'state' = 'failing' and v_was.save ->> 'code' = p_code then
    update public.coding_sessions set save_attempts = save_attempts + 1
    where id = v_was.id
    returning * into v_session;
    return next v_session;
    return;
  end if;
  update public.coding_sessions
  set save = jsonb_build_object(
      'state', 'failing', 'since', coalesce(save ->> 'since', to_jsonb(v_now) #>> '{}'), 'code', p_code,
      'detail', left(p_detail, 2000)),
    save_attempts = save_attempts + 1, updated_at = v_now
  where id = v_was.id
  returning * into v_session;
  perform mobvibe.record_move('save.failing', p_actor, p_code, v_now, v_was, v_session, v_sandbox, v_sandbox);
  return next v_session;
end $$;

-- What the session's row says once a save has succeeded; an event only where saves were failing.
create function mobvibe.save_recovered(p_session text, p_actor text, p_now timestamptz) returns void
language plpgsql volatile set search_path = '' as $$
declare
  v_was public.coding_sessions;
  v_session public.coding_sessions;
begin
  select * into v_was from public.coding_sessions where id = p_session;
  if v_was.save ->> 'state' = 'ok' then
    return;
  end if;
  update public.coding_sessions set save = default, save_attempts = 0, updated_at = p_now
  where id = p_session
  returning * into v_session;
  perform mobvibe.record_event(
    p_session, format('s-%s-%s', p_session, v_session.incarnation), 'save.recovered', p_actor, null, p_now,
    jsonb_build_object('session', mobvibe.changes(to_jsonb(v_was), to_jsonb(v_session)) - 'save_attempts'));
end $$;

-- A save found all of the files in the newest version.
create function public.save_done(p_name text, p_fence bigint, p_actor text) returns setof public.coding_sessions
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_sandbox public.sandboxes := mobvibe.lock_sandbox(p_name, p_fence);
begin
  perform mobvibe.save_recovered(v_sandbox.session_id, p_actor, mobvibe.now());
  return query select * from public.coding_sessions where id = v_sandbox.session_id;
end $$;

-- As before; a commit also ends what was said of saves that failed. None is taken any more once a sealed sandbox is being destroyed: one that
-- was sent before its last save, and arrives after it, would bring back what that found gone.
alter function public.manifest_commit(text, bigint, bigint, text, bigint, jsonb, integer, bigint, text) set schema mobvibe;
alter function mobvibe.manifest_commit security invoker;
revoke all on function mobvibe.manifest_commit from public, anon, authenticated, service_role;
create function public.manifest_commit(
  p_session text, p_fence bigint, p_base bigint, p_sha256 text, p_bytes bigint, p_packs jsonb, p_files integer,
  p_file_bytes bigint, p_actor text
) returns setof public.manifests
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_head bigint;
  v_manifest public.manifests;
begin
  select head into v_head from public.coding_sessions where id = p_session for no key update;
  select * into v_manifest from mobvibe.manifest_commit(
    p_session, p_fence, p_base, p_sha256, p_bytes, p_packs, p_files, p_file_bytes, p_actor);
  if v_manifest.version > v_head and exists (
    select from public.sandboxes
    where session_id = p_session and fence = p_fence and state in ('destroying', 'gone') and sealing_at is not null) then
    raise exception 'The last save of session % was made before', p_session using errcode = 'PT409', detail = 'fenced';
  end if;
  perform mobvibe.save_recovered(p_session, p_actor, mobvibe.now());
  return next v_manifest;
end $$;

-- Gives up what could not be saved: only where a caller has allowed it, or the stop was committed p_keep_ms ago. p_lost is told in the event.
create function public.sandbox_discard(
  p_name text, p_fence bigint, p_keep_ms bigint, p_reason text, p_lost jsonb, p_actor text, p_lease bigint default null
) returns setof public.sandboxes
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.sandboxes;
  v_sandbox public.sandboxes;
  v_session public.coding_sessions;
begin
  perform mobvibe.check_lease(p_name, p_lease);
  v_was := mobvibe.lock_sandbox(p_name, p_fence);
  if v_was.state in ('destroying', 'gone') then
    return next v_was;
    return;
  end if;
  if v_was.state <> 'stopping' or not (
    v_was.discard_unsaved or v_was.stopping_at + p_keep_ms * interval '1 millisecond' <= v_now) then
    raise exception 'What sandbox % has not saved may not be given up', p_name
      using errcode = 'PT409', detail = 'save_failed';
  end if;
  update public.sandboxes set state = 'destroying', updated_at = v_now where name = p_name returning * into v_sandbox;
  select * into v_session from public.coding_sessions where id = v_was.session_id;
  perform mobvibe.record_move(
    'sandbox.discarded', p_actor, p_reason, v_now, v_session, v_session, v_was, v_sandbox,
    jsonb_build_object('lost', p_lost));
  return next v_sandbox;
end $$;

-- Fly does not end a machine whose files are saved or given up: the session is not kept waiting for that. With p_error it counts as failed.
create function public.session_release(
  p_name text, p_fence bigint, p_error jsonb, p_actor text, p_lease bigint default null
) returns setof public.sandboxes
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_sandbox public.sandboxes;
  v_was public.coding_sessions;
  v_session public.coding_sessions;
begin
  perform mobvibe.check_lease(p_name, p_lease);
  v_sandbox := mobvibe.lock_sandbox(p_name, p_fence);
  select * into v_was from public.coding_sessions where id = v_sandbox.session_id;
  if v_sandbox.state = 'destroying' and v_was.incarnation = v_sandbox.incarnation and v_was.status = 'stopping' then
    update public.coding_sessions
    set status = case when p_error is null then 'stopped' else 'failed' end, error = p_error,
      sandbox_id = null, sandbox_region = null, updated_at = v_now
    where id = v_was.id
    returning * into v_session;
    perform mobvibe.record_move(
      'session.released', p_actor, 'its machine is still there', v_now, v_was, v_session, v_sandbox, v_sandbox);
  end if;
  return next v_sandbox;
end $$;

-- As before, but a session that was released, or has a new sandbox already, stays as it is.
create or replace function mobvibe.sandbox_gone(
  p_name text, p_fence bigint, p_reason text, p_error jsonb, p_actor text
) returns setof public.sandboxes
language plpgsql volatile set search_path = '' as $$
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
  select * into v_session_was from public.coding_sessions where id = v_was.session_id;
  v_session := v_session_was;
  if v_session_was.incarnation = v_was.incarnation and v_session_was.status not in ('stopped', 'failed') then
    update public.coding_sessions
    set status = case when p_error is null then 'stopped' else 'failed' end, error = p_error,
      sandbox_id = null, sandbox_region = null, updated_at = v_now
    where id = v_was.session_id
    returning * into v_session;
  end if;
  perform mobvibe.record_move('sandbox.gone', p_actor, p_reason, v_now, v_session_was, v_session, v_was, v_sandbox);
  return next v_sandbox;
end $$;

-- The agent of a ready sandbox answers no more, or does so again.
create function public.sandbox_unresponsive(
  p_name text, p_fence bigint, p_unresponsive boolean, p_reason text, p_actor text, p_lease bigint default null
) returns setof public.sandboxes
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.sandboxes;
  v_sandbox public.sandboxes;
  v_session_was public.coding_sessions;
  v_session public.coding_sessions;
begin
  perform mobvibe.check_lease(p_name, p_lease);
  v_was := mobvibe.lock_sandbox(p_name, p_fence);
  if v_was.state <> 'ready' or (v_was.unresponsive_since is not null) = p_unresponsive then
    return next v_was;
    return;
  end if;
  update public.sandboxes set unresponsive_since = case when p_unresponsive then v_now end, updated_at = v_now
  where name = p_name
  returning * into v_sandbox;
  select * into v_session_was from public.coding_sessions where id = v_was.session_id;
  update public.coding_sessions
  set status = case when p_unresponsive then 'unresponsive' else 'ready' end, updated_at = v_now
  where id = v_was.session_id
  returning * into v_session;
  perform mobvibe.record_move(
    case when p_unresponsive then 'sandbox.unresponsive' else 'sandbox.responsive' end, p_actor, p_reason, v_now,
    v_session_was, v_session, v_was, v_sandbox);
  return next v_sandbox;
end $$;

-- Its agent was restarted inside the machine; p_boot tells one such restart from the next.
create function public.sandbox_agent_restarted(
  p_name text, p_fence bigint, p_boot text, p_reason text, p_actor text
) returns setof public.sandboxes
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.sandboxes := mobvibe.lock_sandbox(p_name, p_fence);
  v_sandbox public.sandboxes;
  v_session public.coding_sessions;
begin
  if v_was.agent_boot = p_boot then
    return next v_was;
    return;
  end if;
  update public.sandboxes set agent_boot = p_boot, updated_at = v_now where name = p_name returning * into v_sandbox;
  select * into v_session from public.coding_sessions where id = v_was.session_id;
  perform mobvibe.record_move(
    'sandbox.agent_restarted', p_actor, p_reason, v_now, v_session, v_session, v_was, v_sandbox);
  return next v_sandbox;
end $$;

-- Jobs of a session that is being stopped wait for its end.
create or replace function mobvibe.may_claim(p_session text, p_apps jsonb) returns boolean
language sql stable set search_path = '' as $$
  select p_apps is null or not exists (
    select from public.sandboxes b
    where b.session_id = p_session and b.state not in ('destroying', 'gone') and not p_apps ? b.app);
$$;

create or replace function public.jobs_claim(p_owner text, p_lease_ms integer, p_max integer, p_apps jsonb default null)
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
    select j.* from public.jobs j join public.coding_sessions s on s.id = j.session_id
    where j.status = 'queued' and j.run_at <= v_now and s.status <> 'stopping' and not exists (
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

-- The sandbox has refused to start the job, so it did not run although it was marked as started: back to the queue, and the try does not count.
create function public.job_refused(p_id text, p_token bigint, p_reason text, p_delay_ms integer) returns setof public.jobs
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.jobs := mobvibe.lock_job(p_id, p_token);
  v_job public.jobs;
begin
  if v_was.status <> 'running' then
    return next v_was;
    return;
  end if;
  update public.jobs
  set status = case when cancel_requested then 'canceled' else 'queued' end, started = false, attempts = attempts - 1,
    owner = null, lease_until = null, run_at = v_now + p_delay_ms * interval '1 millisecond', updated_at = v_now,
    ended_at = case when cancel_requested then v_now end
  where id = p_id
  returning * into v_job;
  perform mobvibe.record_job_event(
    case v_job.status when 'queued' then 'job.released' else 'job.finished' end, 'jobs', p_reason, v_now, v_was, v_job);
  return next v_job;
end $$;

revoke all on function mobvibe.live_sandbox, mobvibe.record_move, mobvibe.save_recovered from public;
revoke all on function public.session_open, public.session_stop, public.sandbox_sealing, public.sandbox_destroying, public.save_failed, public.save_done,
  public.manifest_commit, public.sandbox_discard, public.session_release, public.sandbox_unresponsive,
  public.sandbox_agent_restarted, public.job_refused from public, anon, authenticated, service_role;
grant execute on function public.session_open, public.session_stop, public.sandbox_sealing, public.sandbox_destroying, public.save_failed,
  public.save_done, public.manifest_commit, public.sandbox_discard, public.session_release, public.sandbox_unresponsive,
  public.sandbox_agent_restarted, public.job_refused to service_role;
