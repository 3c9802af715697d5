-- Rows as the controller sees them are described in controller/store/rows.ts.

create table public.coding_sessions (
  id text primary key check (id ~ '^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$'),
  settings jsonb not null check (jsonb_typeof(settings) = 'object'),
  status text not null check (status in ('stopped', 'starting', 'ready', 'stopping', 'failed')),
  incarnation integer not null check (incarnation >= 1),
  fence bigint not null,
  sandbox_id text unique,
  sandbox_region text,
  head bigint not null default 0 check (head >= 0),
  error jsonb,
  last_active_at timestamptz not null,
  created_at timestamptz not null,
  updated_at timestamptz not null
);
create index coding_sessions_by_age on public.coding_sessions (created_at, id);

create table public.sandboxes (
  name text primary key,
  session_id text not null references public.coding_sessions,
  incarnation integer not null,
  fence bigint not null unique,
  app text not null,
  -- A machine that served one session never serves another.
  machine_id text unique,
  region text,
  state text not null check (state in ('planned', 'created', 'ready', 'stopping', 'destroying', 'gone')),
  reason text,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  ready_at timestamptz,
  gone_at timestamptz,
  unique (session_id, incarnation),
  check ((state = 'gone') = (gone_at is not null)),
  check (state not in ('created', 'ready') or machine_id is not null)
);
-- At most one live incarnation per session.
create unique index sandboxes_one_live on public.sandboxes (session_id) where state <> 'gone';

create table public.manifests (
  session_id text not null references public.coding_sessions,
  version bigint not null check (version >= 1),
  base bigint not null check (base = version - 1),
  sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
  bytes bigint not null check (bytes >= 0),
  packs jsonb not null check (jsonb_typeof(packs) = 'array'),
  files integer not null check (files >= 0),
  file_bytes bigint not null check (file_bytes >= 0),
  created_at timestamptz not null,
  primary key (session_id, version)
);

create table public.jobs (
  id text primary key check (id ~ '^[A-Za-z0-9_-]{1,48}$'),
  -- Order of arrival; jobs of one session run in this order.
  seq bigint generated always as identity unique,
  session_id text not null references public.coding_sessions,
  spec jsonb not null check (jsonb_typeof(spec) = 'object'),
  status text not null check (status in ('queued', 'running', 'succeeded', 'failed', 'canceled')),
  attempts integer not null default 0,
  max_attempts integer not null check (max_attempts >= 1),
  owner text,
  -- Of the latest claim; kept when the claim has ended, so that its last call can be repeated.
  token bigint,
  lease_until timestamptz,
  started boolean not null default false,
  cancel_requested boolean not null default false,
  result jsonb,
  run_at timestamptz not null,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  ended_at timestamptz,
  check ((status = 'running') = (lease_until is not null)),
  check ((status in ('succeeded', 'failed', 'canceled')) = (ended_at is not null))
);
-- One running job per session.
create unique index jobs_one_running on public.jobs (session_id) where status = 'running';
create index jobs_unended on public.jobs (session_id, seq) where status in ('queued', 'running');
create index jobs_queued on public.jobs (seq) where status = 'queued';
create index jobs_leases on public.jobs (lease_until) where status = 'running';
create index jobs_by_session on public.jobs (session_id, created_at, id);

create table public.job_output (
  job_id text not null references public.jobs,
  seq integer not null,
  stream text not null check (stream in ('stdout', 'stderr')),
  byte_offset bigint not null check (byte_offset >= 0),
  data text not null,
  encoding text not null check (encoding in ('utf8', 'base64')),
  primary key (job_id, seq),
  unique (job_id, stream, byte_offset)
);

-- Who did what, when and why: one row per transition, never changed.
create table public.session_events (
  id bigint generated always as identity primary key,
  session_id text not null references public.coding_sessions,
  sandbox text,
  kind text not null,
  actor text not null,
  reason text,
  -- What the transition set: {"session": {…}, "sandbox": {…}, "job": {…}, "manifest": {…}}, each with the changed fields only.
  data jsonb not null,
  at timestamptz not null
);
create index session_events_by_session on public.session_events (session_id, id);

alter table public.coding_sessions enable row level security;
alter table public.sandboxes enable row level security;
alter table public.manifests enable row level security;
alter table public.jobs enable row level security;
alter table public.job_output enable row level security;
alter table public.session_events enable row level security;

-- Older projects grant everything on new tables by default; take that back before granting what is meant.
revoke all on public.coding_sessions, public.sandboxes, public.manifests, public.jobs, public.job_output,
  public.session_events from public, anon, authenticated, service_role;
revoke all on sequence public.jobs_seq_seq, public.session_events_id_seq
  from public, anon, authenticated, service_role;
grant select on public.coding_sessions, public.sandboxes, public.manifests, public.jobs, public.job_output,
  public.session_events to service_role;
