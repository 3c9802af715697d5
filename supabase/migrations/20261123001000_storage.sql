-- Sessions' files: `s/<session>/m/<sha256>` manifests, `s/<session>/p/<sha256>` packs. Private; sandboxes come in by signed URLs only.
-- No limit of its own: the project's limit holds.
insert into storage.buckets (id, name, public, file_size_limit) values ('workspaces', 'workspaces', false, null)
on conflict (id) do nothing;
