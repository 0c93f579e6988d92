// What applications do through pgx and lib/pq, on one server; prints what came back.
//
// Usage: clients PORT, or clients PORT pgx or pq for point reads alone, as the driver comes. The
// tests run it against PostgreSQL and against sortie in front of the same server: both must print
// the same. It leaves the tables as it found them.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/stdlib"
	"github.com/lib/pq"
)

var background = context.Background()

func show(title string, value ...interface{}) {
	fmt.Printf("%s: %v\n", title, value)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// What the server said, or what the driver says by itself.
func said(title string, err error) {
	var ours *pgconn.PgError
	var theirs *pq.Error
	switch {
	case err == nil:
		show(title, "no error")
	case errors.As(err, &ours):
		show(title, ours.Code, ours.Message, ours.Position, ours.ConstraintName)
	case errors.As(err, &theirs):
		show(title, theirs.Code, theirs.Message, theirs.Position, theirs.Constraint)
	case errors.Is(err, context.DeadlineExceeded):
		show(title, "too late")
	default:
		show(title, err)
	}
}

func main() {
	target := "host=127.0.0.1 port=" + os.Args[1] + " user=tester dbname=postgres sslmode=disable"
	if len(os.Args) > 2 {
		names := map[string]string{"pgx": "pgx", "pq": "postgres"}
		database, err := sql.Open(names[os.Args[2]], target)
		must(err)
		for id := 1; id <= 20; id++ {
			var label string
			must(database.QueryRow("SELECT label FROM items WHERE id = $1", id).Scan(&label))
		}
		must(database.Close())
		return
	}
	for _, way := range []string{"", "describe", "simple"} {
		config, err := pgx.ParseConfig(target)
		must(err)
		config.PreferSimpleProtocol = way == "simple"
		if way == "describe" {
			config.BuildStatementCache = nil
		}
		byPgx(config)
		show("pgx", way)
		byStandard(stdlib.OpenDB(*config))
		show("pgx by database/sql", way)
	}
	for _, more := range []string{"", " binary_parameters=yes"} {
		database, err := sql.Open("postgres", target+more)
		must(err)
		byStandard(database)
		show("lib/pq", more)
	}
	listen(target)
	_, err := pgx.Connect(background, target+" database=nowhere")
	said("no such database", err)
}

// What every driver of database/sql does.
func byStandard(database *sql.DB) {
	defer database.Close()
	database.SetMaxOpenConns(4)
	for id := 0; id < 8; id++ {
		var label string
		err := database.QueryRow("SELECT label FROM items WHERE id = $1", id).Scan(&label)
		show("point", label, err)
	}
	kept, err := database.Prepare("SELECT id, price::text, made FROM items WHERE id < $1 ORDER BY id")
	must(err)
	for turn := 0; turn < 7; turn++ {
		rows, err := kept.Query(4)
		must(err)
		for rows.Next() {
			var id int
			var price string
			var made time.Time
			must(rows.Scan(&id, &price, &made))
			show("prepared", id, price, made.Format(time.RFC3339))
		}
		must(rows.Err())
	}
	must(kept.Close())
	var nothing sql.NullString
	var kinds struct {
		number int64
		real   float64
		truth  bool
		bytes  []byte
		moment time.Time
	}
	words := "SELECT $1::int8, $2::float8, $3::bool, $4::bytea, $5::timestamptz, $6::text"
	row := database.QueryRow(words, int64(5)<<40, 1.5, true, []byte{0, 255, 92},
		time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC), nil)
	must(row.Scan(&kinds.number, &kinds.real, &kinds.truth, &kinds.bytes, &kinds.moment, &nothing))
	show("types", kinds.number, kinds.real, kinds.truth, kinds.bytes, nothing.Valid)
	show("moment", kinds.moment.UTC())
	var large string
	must(database.QueryRow("SELECT repeat('x', 3000000) || $1::text", "y").Scan(&large))
	show("large", len(large), large[2999998:])
	_, err = database.Exec("SELECT 1 / $1::int4", 0)
	said("division", err)
	_, err = database.Query("SELECT 1 FRO items")
	said("syntax", err)

	_, err = database.Exec("DELETE FROM marks")
	must(err)
	transaction, err := database.Begin()
	must(err)
	insert, err := transaction.Prepare("INSERT INTO marks VALUES ($1, $2)")
	must(err)
	for id := 0; id < 10; id++ {
		_, err = insert.Exec(id, id*2)
		must(err)
	}
	var count, sum int
	totals := "SELECT count(*), coalesce(sum(value), 0) FROM marks"
	must(transaction.QueryRow(totals).Scan(&count, &sum))
	show("own writes", count, sum)
	_, err = insert.Exec(11, -1)
	said("check", err)
	said("failed", transaction.QueryRow(totals).Scan(&count, &sum))
	said("commit", transaction.Commit())
	must(database.QueryRow(totals).Scan(&count, &sum))
	show("rolled back", count, sum)
	options := sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	transaction, err = database.BeginTx(background, &options)
	must(err)
	var level string
	must(transaction.QueryRow("SHOW transaction_isolation").Scan(&level))
	show("level", level)
	_, err = transaction.Exec("DELETE FROM marks")
	said("read only", err)
	must(transaction.Rollback())
	soon, stop := context.WithTimeout(background, 300*time.Millisecond)
	defer stop()
	_, err = database.ExecContext(soon, "SELECT pg_sleep(20)")
	show("too late", err != nil)
	must(database.QueryRow(totals).Scan(&count, &sum))
	show("usable", count, sum)
}

func byPgx(config *pgx.ConnConfig) {
	var notices []string
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		notices = append(notices, notice.Message)
	}
	connection, err := pgx.ConnectConfig(background, config)
	must(err)
	defer connection.Close(background)
	ask := func(title, words string, values ...interface{}) {
		rows, err := connection.Query(background, words, values...)
		for err == nil && rows.Next() {
			row, err := rows.Values()
			must(err)
			show(title, row...)
		}
		if err == nil {
			err = rows.Err()
		}
		said(title, err)
	}
	for id := 0; id < 8; id++ {
		ask("point", "SELECT id, label, made FROM items WHERE id = $1", id)
	}
	ask("list", "SELECT id FROM items WHERE id = ANY($1) ORDER BY id", []int32{3, 1})
	ask("types", "SELECT $1::int2, $2::text, $3::jsonb, $4::int4[], $5::interval, NULL::bool",
		int16(-7), "quo'te \\ é 漢", map[string]int{"a": 1}, []int32{1, 2}, time.Hour)
	ask("division", "SELECT 1 / $1::int4", 0)
	ask("no such table", "SELECT * FROM nothing")
	if !config.PreferSimpleProtocol {
		_, err = connection.Prepare(background, "named", "SELECT label FROM items WHERE id = $1")
		must(err)
		for id := 1; id < 8; id++ {
			ask("named", "named", id)
		}
		must(connection.Deallocate(background, "named"))
		ask("gone", "named", 1)
	}

	_, err = connection.Exec(background, "DELETE FROM marks")
	must(err)
	batch := &pgx.Batch{}
	for id := 0; id < 20; id++ {
		batch.Queue("INSERT INTO marks VALUES ($1, $2)", id, id*2)
		batch.Queue("SELECT label FROM items WHERE id = $1", id)
	}
	batch.Queue("SELECT count(*) FROM marks")
	results := connection.SendBatch(background, batch)
	for id := 0; id < 20; id++ {
		tag, err := results.Exec()
		var label string
		missing := results.QueryRow().Scan(&label)
		show("batch", tag, err, label, missing)
	}
	var count int
	must(results.QueryRow().Scan(&count))
	must(results.Close())
	show("batched", count)
	broken := &pgx.Batch{}
	broken.Queue("SELECT count(*) FROM items")
	broken.Queue("INSERT INTO marks VALUES (500, -1)")
	broken.Queue("SELECT 2")
	results = connection.SendBatch(background, broken)
	show("first", results.QueryRow().Scan(&count), count)
	_, err = results.Exec()
	said("second", err)
	said("closed", results.Close())
	// A batch of reads alone, in the implicit transaction of one Sync.
	reads := &pgx.Batch{}
	for id := 1; id < 30; id++ {
		reads.Queue("SELECT id FROM items WHERE id = $1", id)
	}
	results = connection.SendBatch(background, reads)
	for id := 1; id < 30; id++ {
		must(results.QueryRow().Scan(&count))
		show("read", count)
	}
	must(results.Close())

	err = connection.BeginFunc(background, func(outer pgx.Tx) error {
		inner, err := outer.Begin(background)
		must(err)
		_, err = inner.Exec(background, "INSERT INTO marks VALUES (501, -1)")
		said("inner", err)
		must(inner.Rollback(background))
		return outer.QueryRow(background, "SELECT count(*) FROM marks").Scan(&count)
	})
	show("outer", err, count)
	rows := [][]interface{}{{100, 1, "a"}, {101, 2, nil}}
	columns := []string{"id", "value", "note"}
	copied, err := connection.CopyFrom(background, pgx.Identifier{"marks"}, columns,
		pgx.CopyFromRows(rows))
	show("copied", copied, err)
	ask("copied", "SELECT * FROM marks WHERE id >= 100 ORDER BY id")
	_, err = connection.Exec(background, "DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
	show("notices", notices, err)
	_, err = connection.Exec(background, "SET TimeZone = 'Asia/Tokyo'")
	must(err)
	ask("zone", "SELECT '2024-02-29 12:00+00'::timestamptz::text")
	show("status", connection.PgConn().ParameterStatus("TimeZone"))
	several, err := connection.PgConn().Exec(background, "SELECT 1; SELECT 'x', NULL").ReadAll()
	must(err)
	for _, one := range several {
		show("several", one.CommandTag, one.Rows)
	}
	_, err = connection.Exec(background, "DELETE FROM marks")
	must(err)
	must(connection.PgConn().CancelRequest(background))
	ask("usable", "SELECT count(*) FROM marks")
}

func listen(target string) {
	listener := pq.NewListener(target, time.Second, time.Minute, nil)
	defer listener.Close()
	must(listener.Listen("go"))
	database, err := sql.Open("postgres", target)
	must(err)
	defer database.Close()
	_, err = database.Exec("SELECT pg_notify('go', $1)", "said")
	must(err)
	heard := <-listener.Notify
	show("heard", heard.Channel, heard.Extra)
	transaction, err := database.Begin()
	must(err)
	_, err = transaction.Exec("DELETE FROM marks")
	must(err)
	into, err := transaction.Prepare(pq.CopyIn("marks", "id", "value"))
	must(err)
	for id := 0; id < 1000; id++ {
		_, err = into.Exec(id, id)
		must(err)
	}
	_, err = into.Exec()
	must(err)
	must(into.Close())
	var count int
	must(transaction.QueryRow("SELECT count(*) FROM marks").Scan(&count))
	must(transaction.Rollback())
	show("copied in", count)
}
