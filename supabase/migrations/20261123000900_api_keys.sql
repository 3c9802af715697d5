-- Keys of the controller's API. Only hashes are stored, and nobody can read the table through the API.
create table mobvibe.api_keys (
  id text primary key,
  name text not null,
  sha256 text not null unique check (sha256 ~ '^[0-9a-f]{64}$'),
  created_at timestamptz not null,
  revoked_at timestamptz
);
alter table mobvibe.api_keys enable row level security;

create function public.api_key_add(p_id text, p_name text, p_sha256 text) returns void
language plpgsql volatile security definer set search_path = '' as $$
begin
  insert into mobvibe.api_keys (id, name, sha256, created_at) values (p_id, p_name, p_sha256, mobvibe.now())
  on conflict (id) do nothing;
  if not found and not exists (select from mobvibe.api_keys where id = p_id and sha256 = p_sha256) then
    raise exception 'The API key % exists with another secret', p_id
      using errcode = 'PT400', detail = 'invalid_request';
  end if;
end $$;

-- The key with this hash, unless it was revoked.
create function public.api_key_check(p_sha256 text) returns table (id text, name text)
language sql stable security definer set search_path = '' as $$
  select k.id, k.name from mobvibe.api_keys k where k.sha256 = p_sha256 and k.revoked_at is null;
$$;

create function public.api_key_revoke(p_id text) returns void
language sql volatile security definer set search_path = '' as $$
  update mobvibe.api_keys set revoked_at = mobvibe.now() where id = p_id and revoked_at is null;
$$;

revoke all on function public.api_key_add, public.api_key_check, public.api_key_revoke
  from public, anon, authenticated, service_role;
grant execute on function public.api_key_add, public.api_key_check, public.api_key_revoke to service_role;
