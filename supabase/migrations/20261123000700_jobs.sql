-- Jobs: queued → running → succeeded | failed | canceled. One at a time per session, in order of arrival.

-- The one event of a job's transition. `spec` never changes and may hold secrets in its environment, so it stays out.
create function mobvibe.record_job_event(
  p_kind text, p_actor text, p_reason text, p_at timestamptz, p_was public.jobs, p_job public.jobs
) returns void
language sql volatile set search_path = '' as $$
  select mobvibe.record_event(
    (p_job).session_id, null, p_kind, p_actor, p_reason, p_at,
    pg_catalog.jsonb_build_object('job',
      pg_catalog.jsonb_build_object('id', (p_job).id)
      || (mobvibe.changes(pg_catalog.to_jsonb(p_was), pg_catalog.to_jsonb(p_job)) - 'spec')));
$$;

-- Locks a job for whoever holds the token of its latest claim.
create function mobvibe.lock_job(p_id text, p_token bigint) returns public.jobs
language plpgsql volatile set search_path = '' as $$
declare
  v_job public.jobs;
begin
  select * into v_job from public.jobs where id = p_id for no key update;
  if not found then
    raise exception 'There is no job %', p_id using errcode = 'PT404', detail = 'job_not_found';
  end if;
  if v_job.token is distinct from p_token then
    raise exception 'Job % was claimed anew since token %', p_id, p_token using errcode = 'PT409', detail = 'fenced';
  end if;
  return v_job;
end $$;

-- The same, when the claim must not have ended.
create function mobvibe.lock_running_job(p_id text, p_token bigint) returns public.jobs
language plpgsql volatile set search_path = '' as $$
declare
  v_job public.jobs := mobvibe.lock_job(p_id, p_token);
begin
  if v_job.status <> 'running' then
    raise exception 'Job % is %, no longer running', p_id, v_job.status using errcode = 'PT409', detail = 'fenced';
  end if;
  return v_job;
end $$;

-- Ends the claim of a job that provably did not start: queued again, or ended where it was cancelled or has no attempt left.
create function mobvibe.return_job(p_was public.jobs, p_reason text, p_run_at timestamptz, p_now timestamptz)
returns public.jobs
language plpgsql volatile set search_path = '' as $$
declare
  v_job public.jobs;
  v_status text := case
    when p_was.cancel_requested then 'canceled'
    when p_was.attempts >= p_was.max_attempts then 'failed'
    else 'queued' end;
begin
  update public.jobs
  set status = v_status, owner = null, lease_until = null, run_at = p_run_at, updated_at = p_now,
    ended_at = case when v_status <> 'queued' then p_now end,
    result = case when v_status = 'failed' then jsonb_build_object(
      'result', jsonb_build_object('kind', 'unknown', 'reason',
        format('It did not start in %s attempts; the last one: %s', p_was.attempts, p_reason)),
      'stdout_bytes', 0, 'stderr_bytes', 0, 'duration_ms', 0) end
  where id = p_was.id
  returning * into v_job;
  perform mobvibe.record_job_event(
    case v_status when 'queued' then 'job.released' else 'job.finished' end, 'jobs', p_reason, p_now, p_was, v_job);
  return v_job;
end $$;

-- Adds a job to the session's queue. Answers {job, created}. The same id again with the same contents finds the first one.
create function public.job_enqueue(
  p_id text, p_session text, p_spec jsonb, p_max_attempts integer, p_actor text
) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_job public.jobs;
begin
  -- This lock makes the jobs of a session visible to claims in the order of their `seq`.
  perform from public.coding_sessions where id = p_session for no key update;
  if not found then
    raise exception 'There is no session %', p_session using errcode = 'PT404', detail = 'session_not_found';
  end if;
  insert into public.jobs (id, session_id, spec, status, max_attempts, run_at, created_at, updated_at)
  values (p_id, p_session, p_spec, 'queued', p_max_attempts, v_now, v_now, v_now)
  on conflict (id) do nothing
  returning * into v_job;
  if found then
    perform mobvibe.record_job_event('job.queued', p_actor, null, v_now, null, v_job);
    return jsonb_build_object('job', v_job, 'created', true);
  end if;

  select * into strict v_job from public.jobs where id = p_id;
  if v_job.session_id <> p_session or v_job.spec <> p_spec then
    raise exception 'Job % exists with other contents', p_id using errcode = 'PT409', detail = 'job_conflict';
  end if;
  return jsonb_build_object('job', v_job, 'created', false);
end $$;

-- Hands out up to p_max jobs under a lease. First those whose lease has expired: a started one goes on under its new owner, who attaches
-- to the same exec; one that did not start is returned to the queue. Then the oldest job of each session that has none running, if due:
-- a job that waits for its next attempt holds up those behind it, so that they never run out of order.
create function public.jobs_claim(p_owner text, p_lease_ms integer, p_max integer) returns setof public.jobs
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
    select * from public.jobs where status = 'running' and lease_until < v_now and started
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

-- Called before the exec is asked for: from now on the job may have started and is never run again.
create function public.job_started(p_id text, p_token bigint) returns setof public.jobs
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.jobs := mobvibe.lock_running_job(p_id, p_token);
  v_job public.jobs;
begin
  if v_was.started then
    return next v_was;
    return;
  end if;
  update public.jobs set started = true, updated_at = v_now where id = p_id returning * into v_job;
  perform mobvibe.record_job_event('job.started', 'jobs', null, v_now, v_was, v_job);
  return next v_job;
end $$;

-- Extends the lease; the answer shows whether the job is to be cancelled. Leaves no event.
create function public.job_heartbeat(p_id text, p_token bigint, p_lease_ms integer) returns setof public.jobs
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
begin
  perform mobvibe.lock_running_job(p_id, p_token);
  return query
    update public.jobs set lease_until = v_now + p_lease_ms * interval '1 millisecond', updated_at = v_now
    where id = p_id
    returning *;
end $$;

-- Gives the job back before it has started, to be claimed again after p_delay_ms.
create function public.job_release(p_id text, p_token bigint, p_delay_ms integer) returns setof public.jobs
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.jobs := mobvibe.lock_job(p_id, p_token);
begin
  if v_was.started then
    raise exception 'Job % has started and can''t be released', p_id using errcode = 'PT409', detail = 'job_conflict';
  end if;
  if v_was.status <> 'running' then
    return next v_was;
    return;
  end if;
  return next mobvibe.return_job(
    v_was, 'its owner released it', v_now + p_delay_ms * interval '1 millisecond', v_now);
end $$;

create function public.job_finish(p_id text, p_token bigint, p_status text, p_result jsonb) returns setof public.jobs
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.jobs := mobvibe.lock_job(p_id, p_token);
  v_job public.jobs;
begin
  if p_status is null or p_status not in ('succeeded', 'failed', 'canceled') then
    raise exception 'A job can''t finish as %', p_status using errcode = 'PT400', detail = 'invalid_request';
  end if;
  if v_was.status = p_status then
    return next v_was;
    return;
  end if;
  if v_was.status <> 'running' then
    raise exception 'Job % is % and can''t become %', p_id, v_was.status, p_status
      using errcode = 'PT409', detail = 'fenced';
  end if;
  update public.jobs
  set status = p_status, result = p_result, lease_until = null, ended_at = v_now, updated_at = v_now
  where id = p_id
  returning * into v_job;
  perform mobvibe.record_job_event('job.finished', 'jobs', null, v_now, v_was, v_job);
  return next v_job;
end $$;

-- A queued job ends here; a running one is only marked, and its owner ends it.
create function public.job_cancel(p_id text, p_actor text) returns setof public.jobs
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.jobs;
  v_job public.jobs;
begin
  select * into v_was from public.jobs where id = p_id for no key update;
  if not found then
    raise exception 'There is no job %', p_id using errcode = 'PT404', detail = 'job_not_found';
  end if;
  if v_was.status not in ('queued', 'running') or v_was.cancel_requested then
    return next v_was;
    return;
  end if;
  update public.jobs
  set cancel_requested = true, updated_at = v_now,
    status = case status when 'queued' then 'canceled' else status end,
    ended_at = case status when 'queued' then v_now end
  where id = p_id
  returning * into v_job;
  perform mobvibe.record_job_event(
    case v_job.status when 'canceled' then 'job.finished' else 'job.cancel_requested' end, p_actor, null, v_now,
    v_was, v_job);
  return next v_job;
end $$;

revoke all on function mobvibe.record_job_event, mobvibe.lock_job, mobvibe.lock_running_job, mobvibe.return_job
  from public;
revoke all on function public.job_enqueue, public.jobs_claim, public.job_started, public.job_heartbeat,
  public.job_release, public.job_finish, public.job_cancel from public, anon, authenticated, service_role;
grant execute on function public.job_enqueue, public.jobs_claim, public.job_started, public.job_heartbeat,
  public.job_release, public.job_finish, public.job_cancel to service_role;
