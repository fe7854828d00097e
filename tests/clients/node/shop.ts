// A shop that sells VPS: `node shop.ts PORT`. It keeps the panel's id of each order and uses it for all that follows.

import { announceVps, reportStatus, withdrawVps } from './panel-client.ts';
import { Router, type ShopResponse } from './router.ts';

const router = new Router();
const panelIds = new Map<number, number>();

async function answering(res: ShopResponse, work: () => Promise<object>): Promise<void> {
  try {
    res.json({ success: true, ...(await work()) });
  } catch (error) {
    res.status(500).json({ success: false, message: (error as Error).message });
  }
}

function panelId(orderId: number): number {
  const id = panelIds.get(orderId);
  if (id === undefined) throw new Error(`Order ${orderId} has no VPS`);
  return id;
}

router.post('/orders/complete', async (req, res) => {
  const { order_id, user_id, vps_config } = req.body;
  await answering(res, async () => {
    const synced = await announceVps({ user_id, ...vps_config });
    panelIds.set(order_id, synced.id);
    return { vps_id: synced.id, message: 'VPS created successfully' };
  });
});

router.post('/orders/status', async (req, res) => {
  const { order_id, status } = req.body;
  await answering(res, async () => {
    const synced = await reportStatus(panelId(order_id), status);
    return { vps_id: synced.id, status: synced.status };
  });
});

router.post('/orders/cancel', async (req, res) => {
  const { order_id } = req.body;
  await answering(res, async () => {
    const answer = await withdrawVps(panelId(order_id));
    return { vps_id: answer.vps.id, message: answer.message };
  });
});

// An operator's correction: the id was noted wrongly, or comes from elsewhere.
router.post('/orders/link', async (req, res) => {
  const { order_id, vps_id } = req.body;
  panelIds.set(order_id, vps_id);
  res.json({ success: true });
});

router.listen(Number(process.argv[2]));
