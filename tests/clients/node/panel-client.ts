// A main site's way to the panel, in TypeScript that Node runs as it is.

export interface SoldVps {
  user_id: number; // the panel's id of the customer
  name: string;
  cpu: number; // cores
  ram: number; // GB, as plans are sold; the panel takes MB
  disk: number; // GB
  os: string;
  hypervisor?: string;
}

export interface PanelVps extends SoldVps {
  id: number;
  status: string;
}

type Action = 'create' | 'update' | 'delete';

interface Answer {
  status: string;
  message: string;
  vps: PanelVps;
}

interface Refusal {
  message: string;
}

async function post(action: Action, vps: Record<string, unknown>): Promise<Response> {
  // Read at each call: a key that was rotated counts at once.
  const url = process.env.OSPAB_PANEL_URL;
  const key = process.env.VPS_SYNC_API_KEY;
  if (!url || !key) {
    throw new Error('OSPAB_PANEL_URL and VPS_SYNC_API_KEY must be set');
  }
  return fetch(`${url}/api/vps/sync`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'X-API-Key': key },
    body: JSON.stringify({ action, vps }),
  });
}

export async function announceVps(sold: SoldVps): Promise<PanelVps> {
  const response = await post('create', {
    user_id: sold.user_id,
    name: sold.name,
    status: 'creating',
    cpu: sold.cpu,
    ram: sold.ram * 1024,
    disk: sold.disk,
    os: sold.os,
    hypervisor: sold.hypervisor || 'proxmox',
  });
  if (!response.ok) {
    const refusal = (await response.json()) as Refusal;
    throw new Error(`Sync failed: ${refusal.message}`);
  }
  return ((await response.json()) as Answer).vps;
}

export async function reportStatus(id: number, status: string): Promise<PanelVps> {
  const response = await post('update', { id, status });
  const answer = (await response.json()) as Answer;
  if (!response.ok) throw new Error(answer.message);
  return answer.vps;
}

export async function withdrawVps(id: number): Promise<Answer> {
  const response = await post('delete', { id });
  const answer = (await response.json()) as Answer;
  if (!response.ok) throw new Error(answer.message);
  return answer;
}
