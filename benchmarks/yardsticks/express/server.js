// Express and pg: a call becomes a row, durably, and is answered with its id. The pool has pg's default size.
'use strict';

const express = require('express');
const { Pool } = require('pg');

const pool = new Pool({ connectionString: process.env.DATABASE_URL });
const app = express();
app.use(express.json());

app.post('/api/vps/sync', async (request, response) => {
  if (request.get('X-API-Key') !== process.env.API_KEY) {
    response.status(401).json({ message: 'Invalid or missing API key' });
    return;
  }
  const { action, vps } = request.body;
  if (typeof action !== 'string' || typeof vps !== 'object' || vps === null) {
    response.status(400).json({ message: 'Missing required fields' });
    return;
  }
  const result = await pool.query('INSERT INTO calls (action, payload) VALUES ($1, $2) RETURNING id', [action, vps]);
  response.status(202).json({ status: 'success', vps: { ...vps, id: result.rows[0].id } });
});

app.listen(Number(process.env.PORT), '127.0.0.1');
