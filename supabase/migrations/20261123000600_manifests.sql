-- Makes an uploaded manifest the session's newest version: compare-and-set on the head, for the holder of the session's fence.
-- Repeating the latest commit answers with the version that it made.
create function public.manifest_commit(
  p_session text, p_fence bigint, p_base bigint, p_sha256 text, p_bytes bigint, p_packs jsonb, p_files integer,
  p_file_bytes bigint, p_actor text
) returns setof public.manifests
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_now timestamptz := mobvibe.now();
  v_was public.coding_sessions;
  v_session public.coding_sessions;
  v_manifest public.manifests;
begin
  select * into v_was from public.coding_sessions where id = p_session for no key update;
  if not found then
    raise exception 'There is no session %', p_session using errcode = 'PT404', detail = 'session_not_found';
  end if;
  if v_was.fence is distinct from p_fence then
    raise exception 'Session % has the fence %, not %', p_session, v_was.fence, p_fence
      using errcode = 'PT409', detail = 'fenced';
  end if;
  select * into v_manifest from public.manifests where session_id = p_session and version = v_was.head;
  if found and v_manifest.base = p_base and v_manifest.sha256 = p_sha256 then
    return next v_manifest;
    return;
  end if;
  if v_was.head is distinct from p_base then
    raise exception 'The files of session % are at version %, not %', p_session, v_was.head, p_base
      using errcode = 'PT409', detail = 'save_conflict';
  end if;

  insert into public.manifests (session_id, version, base, sha256, bytes, packs, files, file_bytes, created_at)
  values (p_session, p_base + 1, p_base, p_sha256, p_bytes, p_packs, p_files, p_file_bytes, v_now)
  returning * into v_manifest;
  update public.coding_sessions set head = v_manifest.version, updated_at = v_now
  where id = p_session
  returning * into v_session;
  perform mobvibe.record_event(
    p_session, format('s-%s-%s', p_session, v_session.incarnation), 'manifest.committed', p_actor, null, v_now,
    jsonb_build_object(
      'session', mobvibe.changes(to_jsonb(v_was), to_jsonb(v_session)),
      -- The list of packs can be long and stands in the manifest's own row.
      'manifest', to_jsonb(v_manifest) - 'packs'));
  return next v_manifest;
end $$;

revoke all on function public.manifest_commit from public, anon, authenticated, service_role;
grant execute on function public.manifest_commit to service_role;
