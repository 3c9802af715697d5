-- Appends the one event of a transition.
create function mobvibe.record_event(
  p_session text, p_sandbox text, p_kind text, p_actor text, p_reason text, p_at timestamptz, p_data jsonb
) returns void
language sql volatile set search_path = '' as $$
  insert into public.session_events (session_id, sandbox, kind, actor, reason, data, at)
  values (p_session, p_sandbox, p_kind, p_actor, p_reason, p_data, p_at);
$$;

revoke all on function mobvibe.record_event from public;
