-- Appends a chunk to what a job has written. Bytes at offsets that are already there are dropped, so a chunk may be sent again, alone or
-- as the beginning of a longer one. The first 4 MiB of each stream are kept; the true sizes are in the job's result.
create function public.job_append_output(
  p_id text, p_token bigint, p_stream text, p_byte_offset bigint, p_data text, p_encoding text
) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare
  c_kept constant bigint := 4 * 1024 * 1024;
  v_bytes bytea := case p_encoding when 'base64' then decode(p_data, 'base64') else convert_to(p_data, 'UTF8') end;
  v_covered bigint;
  v_skip integer;
  v_take bigint;
begin
  perform mobvibe.lock_running_job(p_id, p_token);
  -- The length of base64 is counted without decoding it: 3 bytes per 4 characters, less the padding.
  select o.byte_offset + case o.encoding
    when 'utf8' then octet_length(o.data)
    else length(o.data) / 4 * 3 - (length(o.data) - length(rtrim(o.data, '='))) end
  into v_covered
  from public.job_output o
  where o.job_id = p_id and o.stream = p_stream
  order by o.byte_offset desc limit 1;

  v_skip := least(greatest(coalesce(v_covered, 0) - p_byte_offset, 0), length(v_bytes));
  v_take := least(length(v_bytes), c_kept - p_byte_offset) - v_skip;
  if v_take <= 0 then
    return;
  end if;
  insert into public.job_output (job_id, seq, stream, byte_offset, data, encoding)
  select p_id, coalesce(max(o.seq), 0) + 1, p_stream, p_byte_offset + v_skip,
    case when v_take = length(v_bytes) and p_encoding = 'utf8' then p_data
      -- A cut may go through a character. PostgreSQL breaks base64 into lines.
      else translate(encode(substr(v_bytes, v_skip + 1, v_take::integer), 'base64'), E'\n', '') end,
    case when v_take = length(v_bytes) then p_encoding else 'base64' end
  from public.job_output o where o.job_id = p_id;
end $$;

revoke all on function public.job_append_output from public, anon, authenticated, service_role;
grant execute on function public.job_append_output to service_role;
