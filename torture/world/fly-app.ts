/** What `pulumi up` does for the real Fly: the app exists before a controller starts. */
export async function createFlyApp(flyUrl: string, token: string, name: string): Promise<void> {
  const answer = await fetch(`${flyUrl}/v1/apps`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ app_name: name, org_slug: 'personal', network: name }),
    signal: AbortSignal.timeout(10_000),
  });
  if (!answer.ok) throw new Error(`no app ${name}: ${answer.status} ${await answer.text()}`);
}
