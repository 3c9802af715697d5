-- What is kept for a while only, found by its age.
create index session_events_by_age on public.session_events (at);
create index cell_events_by_age on public.cell_events (at);
create index jobs_by_end on public.jobs (ended_at) where ended_at is not null;
create index sandboxes_by_end on public.sandboxes (gone_at) where state = 'gone';

-- Removes up to p_limit rows that are older than p_keep_ms, and answers how many there were: fewer than p_limit, and nothing old is left.
-- Sessions, what they saved, and whatever is alive stay, and so do a session's newest sandbox and the events of what is alive. Rows that are
-- locked are left to the next call: nobody waits for this.
create function public.purge(p_keep_ms bigint, p_limit integer) returns integer
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_before timestamptz := mobvibe.now() - p_keep_ms * interval '1 millisecond';
  v_left integer := p_limit;
  v_count integer;
begin
  if p_keep_ms < 3600000 or p_limit < 1 then
    raise exception 'At least an hour is kept, and at least one row is removed'
      using errcode = 'PT400', detail = 'invalid_request';
  end if;

  delete from public.job_output o where o.ctid in (
    select x.ctid from public.jobs j join public.job_output x on x.job_id = j.id
    where j.ended_at < v_before limit v_left for update of x skip locked);
  get diagnostics v_count = row_count;
  v_left := v_left - v_count;

  delete from public.jobs where id in (
    select j.id from public.jobs j
    where j.ended_at < v_before and not exists (select from public.job_output o where o.job_id = j.id)
    limit v_left for update skip locked);
  get diagnostics v_count = row_count;
  v_left := v_left - v_count;

  delete from public.session_events where id in (
    select e.id from public.session_events e
    where e.at < v_before
      and not exists (select from public.sandboxes b where b.name = e.sandbox and b.state <> 'gone')
      and not exists (select from public.jobs j where j.id = e.data #>> '{job,id}' and j.ended_at is null)
    limit v_left for update skip locked);
  get diagnostics v_count = row_count;
  v_left := v_left - v_count;

  delete from public.cell_events where id in (
    select e.id from public.cell_events e where e.at < v_before limit v_left for update skip locked);
  get diagnostics v_count = row_count;
  v_left := v_left - v_count;

  delete from public.sandboxes where name in (
    select b.name from public.sandboxes b
    where b.state = 'gone' and b.gone_at < v_before
      and exists (select from public.sandboxes n where n.session_id = b.session_id and n.incarnation > b.incarnation)
    limit v_left for update skip locked);
  get diagnostics v_count = row_count;
  v_left := v_left - v_count;

  -- One whose end nobody saw has ended with its sandbox.
  if to_regclass('public.session_execs') is not null then
    delete from public.session_execs where ctid in (
      select x.ctid from public.session_execs x
      where x.started_at < v_before and (x.ended_at < v_before or x.ended_at is null and not exists (
        select from public.sandboxes b
        where b.session_id = x.session_id and b.incarnation = x.incarnation
          and (b.state <> 'gone' or b.gone_at >= v_before)))
      limit v_left for update skip locked);
    get diagnostics v_count = row_count;
    v_left := v_left - v_count;
  end if;
  return p_limit - v_left;
end $$;

revoke all on function public.purge from public, anon, authenticated, service_role;
grant execute on function public.purge to service_role;
