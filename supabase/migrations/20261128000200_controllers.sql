-- Whether a controller reaches Fly, as it says itself with each heartbeat: one that does not hands its cells to one that does.
alter table public.controllers add column able boolean not null default true;

-- As before, and: p_able is kept; answers also `able`, the controllers that are alive and reach Fly, and `now`, the time by which all rows are
-- written and judged. It is taken at the end, so that what was waited for before does not count.
drop function public.cells_renew(text, jsonb, text, jsonb, integer, text);
create function public.cells_renew(
  p_stack text, p_apps jsonb, p_holder text, p_held jsonb, p_lease_ms integer, p_actor text, p_able boolean default true
) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_until timestamptz := v_now + p_lease_ms * interval '1 millisecond';
begin
  perform from public.cells_declare(p_stack, p_apps, p_actor);
  insert into public.controllers (holder, stack, expires_at, able) values (p_holder, p_stack, v_until, p_able)
  on conflict (holder) do update set stack = excluded.stack, expires_at = excluded.expires_at, able = excluded.able;
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
      from public.controllers k where k.stack = p_stack and k.expires_at >= v_now),
    'able', (select coalesce(jsonb_agg(k.holder order by k.holder), '[]')
      from public.controllers k where k.stack = p_stack and k.expires_at >= v_now and k.able),
    'now', mobvibe.now());
end $$;

revoke all on function public.cells_renew from public, anon, authenticated, service_role;
grant execute on function public.cells_renew to service_role;
