-- The id of an exec lives as long as its session: an id that was given to one sandbox of it never runs in a later one.
create table public.session_execs (
  session_id text not null references public.coding_sessions,
  id text not null check (id ~ '^[A-Za-z0-9_-]{1,64}$'),
  -- The sandbox that was asked to run it, and no other ever is.
  incarnation integer not null check (incarnation >= 1),
  -- Equal for equal commands; a hash, as the environment of a command may hold secrets.
  command_key text not null,
  -- How often it was registered: a refusal by the agent takes back only what nobody else has asked for since.
  asked integer not null default 1 check (asked >= 1),
  actor text not null,
  started_at timestamptz not null,
  ended_at timestamptz,
  -- The last line of its stream (`ExecEvent` of controller/agents/wire.ts), once somebody has seen it.
  "end" jsonb,
  primary key (session_id, id),
  check ((ended_at is null) = ("end" is null))
);
create index session_execs_by_age on public.session_execs (started_at);

alter table public.session_execs enable row level security;
revoke all on public.session_execs from public, anon, authenticated, service_role;
grant select on public.session_execs to service_role;

-- Answers {created, exec}, or {code, status, message} where it must not be started. An id that is known is found whatever the session does
-- now. The session's row is not locked: execs that are registered together don't wait for each other, and one that crosses a stop is
-- refused by the agent, which the stop seals.
create function mobvibe.register_exec(
  p_session text, p_id text, p_incarnation integer, p_key text, p_actor text
) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  v_session public.coding_sessions;
  v_exec public.session_execs;
begin
  update public.session_execs set asked = asked + 1 where session_id = p_session and id = p_id returning * into v_exec;
  if found then
    return jsonb_build_object('created', false, 'exec', v_exec);
  end if;
  select * into v_session from public.coding_sessions where id = p_session;
  if not found then
    return jsonb_build_object('status', 'PT404', 'code', 'session_not_found',
      'message', format('There is no session %s', p_session));
  end if;
  if v_session.status = 'stopping' then
    return jsonb_build_object('status', 'PT409', 'code', 'session_stopping',
      'message', format('Session %s is being stopped', p_session));
  end if;
  if v_session.status in ('stopped', 'failed') then
    return jsonb_build_object('status', 'PT409', 'code', 'session_not_open',
      'message', format('Session %s is %s; open it first', p_session, v_session.status));
  end if;
  if v_session.incarnation <> p_incarnation then
    return jsonb_build_object('status', 'PT409', 'code', 'fenced',
      'message', format('Session %s is at sandbox %s, no longer at %s', p_session, v_session.incarnation, p_incarnation));
  end if;
  insert into public.session_execs as e (session_id, id, incarnation, command_key, actor, started_at)
  values (p_session, p_id, p_incarnation, p_key, p_actor, mobvibe.now())
  -- Registered by another at this moment.
  on conflict (session_id, id) do update set asked = e.asked + 1
  returning * into v_exec;
  return jsonb_build_object('created', v_exec.asked = 1, 'exec', v_exec);
end $$;

-- To be called, and committed, before the agent is asked to start it. Answers {created, exec: the row of this id}.
create function public.exec_register(
  p_session text, p_id text, p_incarnation integer, p_key text, p_actor text
) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_answer jsonb := mobvibe.register_exec(p_session, p_id, p_incarnation, p_key, p_actor);
begin
  if v_answer ? 'code' then
    raise exception '%', v_answer ->> 'message'
      using errcode = v_answer ->> 'status', detail = v_answer ->> 'code';
  end if;
  return v_answer;
end $$;

-- Several at once: p_execs is a list of {session, id, incarnation, key, actor}. Answers as many in the same order, each {created, exec} or
-- {code, message}. What is refused does not hold up the others.
create function public.execs_register(p_execs jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_answers jsonb[] := array_fill(null::jsonb, array[jsonb_array_length(p_execs)]);
  v_one record;
begin
  -- In one order, so that none can deadlock.
  for v_one in
    select e.value, e.place from jsonb_array_elements(p_execs) with ordinality e(value, place)
    order by e.value ->> 'session', e.value ->> 'id', e.place
  loop
    v_answers[v_one.place] := mobvibe.register_exec(
      v_one.value ->> 'session', v_one.value ->> 'id', (v_one.value ->> 'incarnation')::integer,
      v_one.value ->> 'key', v_one.value ->> 'actor');
  end loop;
  return to_jsonb(v_answers);
end $$;

-- The agent has refused to start it: the id is as if it had never been used. Only for the one who made the row, and as long as nobody else
-- has registered it since (who may have been luckier). True: it is gone.
create function public.exec_withdraw(p_session text, p_id text, p_incarnation integer) returns boolean
language plpgsql volatile security definer set search_path = '' as $$
begin
  delete from public.session_execs
  where session_id = p_session and id = p_id and incarnation = p_incarnation and asked = 1 and "end" is null;
  return found;
end $$;

-- How execs of a session ended: p_ends is a list of {id, end}. What is known already stays as it is. Answers how many were new.
create function public.execs_ended(p_session text, p_ends jsonb) returns integer
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_new integer;
begin
  -- In one order, so that none can deadlock.
  perform from public.session_execs
  where session_id = p_session and "end" is null and id in (select e ->> 'id' from jsonb_array_elements(p_ends) e)
  order by id for no key update;
  update public.session_execs x set "end" = e.value -> 'end', ended_at = mobvibe.now()
  from (select distinct on (value ->> 'id') value from jsonb_array_elements(p_ends)) e
  where x.session_id = p_session and x.id = e.value ->> 'id' and x."end" is null;
  get diagnostics v_new = row_count;
  return v_new;
end $$;

revoke all on function mobvibe.register_exec from public, anon, authenticated, service_role;
revoke all on function public.exec_register, public.execs_register, public.exec_withdraw, public.execs_ended
  from public, anon, authenticated, service_role;
grant execute on function public.exec_register, public.execs_register, public.exec_withdraw, public.execs_ended
  to service_role;
