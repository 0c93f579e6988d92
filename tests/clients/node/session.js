// What applications do through node-postgres and Postgres.js, on one server; prints what came back.
//
// Usage: node session.js PORT, with NODE_PATH where the packages of package.json are; or node
// session.js PORT pg or postgres for point reads alone, as the driver comes.
//
// The tests run it against PostgreSQL and against sortie in front of the same server: both must
// print the same. It leaves the tables as it found them.
"use strict";

const { pipeline } = require("node:stream/promises");
const { Readable } = require("node:stream");
const { Client, Pool } = require("pg");
const Cursor = require("pg-cursor");
const QueryStream = require("pg-query-stream");
const copy = require("pg-copy-streams");
const postgres = require("postgres");

const target = {
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  user: "tester",
  database: "postgres",
};

function show(title, value) {
  console.log(`${title}: ${JSON.stringify(value)}`);
}

async function failing(title, promise) {
  try {
    await promise;
    show(title, "no error");
  } catch (error) {
    show(title, [error.code, error.message, error.position, error.constraint]);
  }
}

async function values(client) {
  const kinds = {
    int2: -32768, int4: 2147483647, int8: "-9223372036854775808", numeric: "1.50",
    float8: -0.5, bool: true, text: "quo'te \\ é 漢", bytea: Buffer.from([0, 255, 92]),
    date: "2024-02-29",
    timestamptz: new Date("2024-02-29T12:00:00Z"), jsonb: { a: [1, null] },
    "int4[]": [1, null, 3], "text[]": ["a,b", 'q"', ""],
    uuid: "12345678-1234-5678-1234-567812345678", interval: "3 days 04:05:06",
    int4range: "[1,5)", inet: "10.0.0.1/8",
  };
  for (const [kind, value] of Object.entries(kinds)) {
    const text = `SELECT $1::${kind} AS it, NULL::${kind} AS nothing`;
    const { rows, fields } = await client.query(text, [value]);
    show(kind, [rows, fields.map((field) => [field.name, field.dataTypeID, field.format])]);
  }
  const binary = { text: "SELECT $1::int4 AS a, $2::text AS b", values: [7, null], binary: true };
  show("binary", (await client.query(binary)).rows);
  const some = "SELECT id, label FROM items WHERE id < $1 ORDER BY id";
  show("arrays", (await client.query({ text: some, rowMode: "array" }, [4])).rows);
  const large = await client.query("SELECT repeat('x', 3000000) || $1 AS it", ["y"]);
  show("large", [large.rows[0].it.length, large.rows[0].it.slice(-2)]);
}

async function reads(client) {
  for (let id = 0; id < 8; id++) {
    const point = { name: "point", text: "SELECT label FROM items WHERE id = $1", values: [id] };
    show("prepared", (await client.query(point)).rows);
    const other = "SELECT price, made::text FROM items WHERE id = $1";
    show("by itself", (await client.query(other, [id])).rows);
  }
  show("simple", (await client.query("SELECT count(*) FROM items")).rows);
  const both = await client.query("SELECT 1 AS a; SELECT 'x' AS b, NULL AS c");
  show("both", both.map((result) => [result.command, result.rowCount, result.rows]));
  // All of these are queued in the client.
  const ids = Array.from({ length: 40 }, (_, n) => n + 1);
  const queued = ids.map((id) => client.query("SELECT id FROM items WHERE id = $1", [id]));
  show("queued", (await Promise.all(queued)).map((result) => result.rows[0].id));
}

async function failures(client) {
  await failing("division", client.query("SELECT 1 / $1::int4", [0]));
  await failing("syntax", client.query("SELECT 1 FRO items"));
  await failing("no such table", client.query("SELECT * FROM nothing WHERE id = $1", [1]));
  const other = { name: "point", text: "SELECT 1", values: [] };
  await failing("another text by that name", client.query(other));
  await failing("wrong count", client.query("SELECT $1::int4", [1, 2]));
  await client.query("BEGIN");
  show("in it", (await client.query("SELECT label FROM items WHERE id = $1", [3])).rows);
  await failing("check", client.query("INSERT INTO marks VALUES ($1, $2)", [1, -1]));
  await failing("failed", client.query("SELECT label FROM items WHERE id = $1", [3]));
  show("commit", (await client.query("COMMIT")).command);
  show("usable", (await client.query("SELECT count(*) FROM marks")).rows);
}

async function transactions(client) {
  await client.query("DELETE FROM marks");
  await client.query("BEGIN");
  for (let id = 0; id < 10; id++) {
    await client.query("INSERT INTO marks VALUES ($1, $2)", [id, id * 2]);
  }
  await client.query("SAVEPOINT a");
  await failing("twice", client.query("INSERT INTO marks VALUES (1, 1)"));
  await client.query("ROLLBACK TO a");
  const sum = "SELECT count(*), sum(value) FROM marks";
  show("own writes", (await client.query(sum)).rows);
  await client.query("ROLLBACK");
  show("rolled back", (await client.query(sum)).rows);
  await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  show("level", (await client.query("SHOW transaction_isolation")).rows);
  await failing("read only", client.query("DELETE FROM marks"));
  await client.query("ROLLBACK");
  const { rows } = await client.query("INSERT INTO marks VALUES (5, 5) RETURNING *");
  show("returned", rows);
  show("read back", (await client.query("SELECT value FROM marks WHERE id = $1", [5])).rows);
  show("deleted", (await client.query("DELETE FROM marks")).rowCount);
}

async function cursors(client) {
  const text = "SELECT id FROM items WHERE id <= $1 ORDER BY id";
  const cursor = client.query(new Cursor(text, [20]));
  show("three", await cursor.read(3));
  show("nine", await cursor.read(9));
  await cursor.close();
  const stream = client.query(new QueryStream(text, [30], { batchSize: 7 }));
  const seen = [];
  for await (const row of stream) seen.push(row.id);
  show("streamed", seen);
  const limited = { text, values: [10], rows: 4 };
  show("rows at once", (await client.query(limited)).rows.length);
  const bad = client.query(new Cursor("SELECT 1 / (3 - id) FROM items WHERE id < 6 ORDER BY id"));
  show("before", await bad.read(2));
  await failing("in a cursor", bad.read(2));
}

async function copies(client) {
  await client.query("DELETE FROM marks");
  const lines = Array.from({ length: 2000 }, (_, n) => `${n}\t${n}\t\\N\n`);
  const into = client.query(copy.from("COPY marks FROM STDIN"));
  await pipeline(Readable.from(lines), into);
  show("copied in", into.rowCount);
  const three = "SELECT * FROM marks WHERE id < 3 ORDER BY id";
  const out = client.query(copy.to(`COPY (${three}) TO STDOUT`));
  const pieces = [];
  for await (const piece of out) pieces.push(piece);
  show("copied out", Buffer.concat(pieces).toString());
  const bad = client.query(copy.from("COPY marks FROM STDIN"));
  await failing("bad line", pipeline(Readable.from(["x\ty\n"]), bad));
  show("left", (await client.query("SELECT count(*) FROM marks")).rows);
  await client.query("DELETE FROM marks");
}

async function sessions(client, other) {
  const notices = [];
  client.on("notice", (notice) => notices.push(notice.message));
  await client.query("DO $$ BEGIN RAISE NOTICE 'hello'; END $$");
  show("notices", notices);
  await client.query("SET TIME ZONE 'Asia/Tokyo'");
  show("zone", (await client.query("SHOW timezone")).rows);
  const moment = "SELECT '2024-02-29 12:00+00'::timestamptz::text AS it";
  show("text", (await client.query(moment)).rows);
  show("the other's", (await other.query(moment)).rows);
  const heard = new Promise((resolve) => client.once("notification", resolve));
  await client.query("LISTEN node");
  await other.query("SELECT pg_notify('node', $1)", ["said"]);
  const { channel, payload } = await heard;
  show("heard", [channel, payload]);
  const slow = failing("cancelled", client.query("SELECT pg_sleep(20)"));
  setTimeout(() => other.query(
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE state = 'active' AND query = $1",
    ["SELECT pg_sleep(20)"],
  ), 400);
  await slow;
  await client.query("SET statement_timeout = 150");
  await failing("timed out", client.query("SELECT pg_sleep(20)"));
  await client.query("RESET statement_timeout");
  show("usable", (await client.query("SELECT 1 AS it")).rows);
}

async function pooled() {
  const pool = new Pool({ ...target, max: 6 });
  const ids = Array.from({ length: 60 }, (_, n) => n + 1);
  const asked = ids.map((id) => pool.query("SELECT id FROM items WHERE id = $1", [id]));
  show("pool", (await Promise.all(asked)).map((result) => result.rows[0].id));
  const client = await pool.connect();
  client.release(true);
  show("another", (await pool.query("SELECT 1 AS it")).rows);
  await pool.end();
  await failing("no such database", new Client({ ...target, database: "nowhere" }).connect());
}

// Postgres.js prepares everything by itself, and sends the next statement before the last is done.
async function byPostgresJs() {
  const sql = postgres({ ...target, max: 2, onnotice: () => {} });
  const ids = Array.from({ length: 50 }, (_, n) => n + 1);
  const rows = await Promise.all(ids.map((id) => sql`SELECT label FROM items WHERE id = ${id}`));
  show("pipelined", rows.map(([row]) => row.label));
  show("list", [...(await sql`SELECT id FROM items WHERE id IN ${sql([3, 1])} ORDER BY id`)]);
  await failing("division", sql`SELECT 1 / ${0}::int4`);
  const total = await sql.begin(async (inside) => {
    await inside`INSERT INTO marks ${inside([{ id: 1, value: 10, note: null }])}`;
    await inside.savepoint((deeper) => deeper`INSERT INTO marks VALUES (2, -1)`).catch(
      (error) => show("deeper", error.code),
    );
    return inside`SELECT sum(value) FROM marks`;
  });
  show("total", [...total]);
  await failing("undone", sql.begin(async (inside) => {
    show("read only", [...(await inside`SELECT count(*) FROM marks`)]);
    await inside`DELETE FROM nothing`;
  }));
  const seen = [];
  await sql`SELECT id FROM items WHERE id < 30 ORDER BY id`.cursor(8, (some) => {
    seen.push(some.length);
  });
  show("cursor", seen);
  show("described", (await sql`SELECT * FROM items`.describe()).columns.map((it) => it.name));
  const slow = sql`SELECT pg_sleep(20)`.execute();
  setTimeout(() => slow.cancel(), 300);
  await failing("cancelled", slow);
  show("simple", (await sql.unsafe("SELECT 1 AS a; SELECT 2 AS b")).map((it) => [...it]));
  await sql`DELETE FROM marks`;
  await sql.end();
}

async function pointReads(driver) {
  const ids = Array.from({ length: 20 }, (_, n) => n + 1);
  if (driver === "postgres") {
    const sql = postgres({ ...target, max: 1 });
    for (const id of ids) await sql`SELECT label FROM items WHERE id = ${id}`;
    return sql.end();
  }
  const client = new Client(target);
  await client.connect();
  for (const id of ids) await client.query("SELECT label FROM items WHERE id = $1", [id]);
  return client.end();
}

async function main() {
  if (process.argv.length > 3) return pointReads(process.argv[3]);
  const client = new Client({ ...target, application_name: "node" });
  const other = new Client(target);
  await client.connect();
  await other.connect();
  show("name", (await client.query("SHOW application_name")).rows);
  for (const part of [values, reads, failures, transactions, cursors, copies, sessions]) {
    await part(client, other);
    show(part.name, "done");
  }
  await client.end();
  await other.end();
  await pooled();
  await byPostgresJs();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
