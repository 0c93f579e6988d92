// A herd of callers through node-postgres, as it is by default: what ../herd.py is.
//
// Usage: node herd.js PORT FOLDER, with NODE_PATH where the packages of package.json are
"use strict";

const { existsSync, writeFileSync } = require("node:fs");
const { setTimeout } = require("node:timers/promises");
const { Client } = require("pg");

const [port, folder] = process.argv.slice(2);
const callers = Number(process.env.HERD_CALLERS ?? 200);

async function connect() {
  const client = new Client({
    host: "127.0.0.1", port: Number(port), user: "reader", database: "postgres",
  });
  await client.connect();
  return client;
}

async function read(client, caller) {
  const trace = caller.toString(16).padStart(32, "0");
  const text = `SELECT user_id, name FROM users WHERE user_id = $1 \
/*traceparent='00-${trace}-${trace.slice(16)}-01'*/`;
  const { rows } = await client.query(text, [2]);
  return JSON.stringify(rows[0]);
}

async function main() {
  const clients = [];
  for (let caller = 0; caller < callers; caller += 1) {
    clients.push(await connect());
  }
  writeFileSync(`${folder}/ready`, "");
  while (!existsSync(`${folder}/go`)) {
    await setTimeout(10);
  }
  const answers = await Promise.all(clients.map(read));
  console.log(`${answers.length} answers, ${new Set(answers).size} different`);
  await Promise.all(clients.map((client) => client.end()));
}

main();
