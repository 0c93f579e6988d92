import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.UUID;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.jdbc.PreferQueryMode;
import org.postgresql.util.PSQLException;

/**
 * What applications do through JDBC, on one server; prints what came back.
 *
 * <p>Usage: Session PORT, or Session PORT reads for point reads alone, as the driver comes. The
 * tests run it against PostgreSQL and against sortie in front of the same server: both must print
 * the same. It leaves the tables as it found them.
 */
public final class Session {
    private interface Action {
        void run() throws Exception;
    }

    private static void show(String title, Object value) {
        System.out.println(title + ": " + value);
    }

    private static void failing(String title, Action action) throws Exception {
        try {
            action.run();
            show(title, "no error");
        } catch (PSQLException error) {
            var said = error.getServerErrorMessage();
            String place = said == null ? "" : said.getPosition() + " " + said.getConstraint();
            String text = error.getMessage().lines().findFirst().orElse("");
            show(title, error.getSQLState() + " " + text + " " + place);
        }
    }

    /** All rows, as the driver makes objects of them. */
    private static List<String> rows(ResultSet results) throws SQLException {
        List<String> rows = new ArrayList<>();
        int columns = results.getMetaData().getColumnCount();
        while (results.next()) {
            List<String> row = new ArrayList<>();
            for (int column = 1; column <= columns; column++) {
                Object value = results.getObject(column);
                boolean raw = value instanceof byte[];
                row.add(raw ? Arrays.toString((byte[]) value) : String.valueOf(value));
            }
            rows.add(String.join("|", row));
        }
        results.close();
        return rows;
    }

    private static List<String> ask(Connection connection, String text, Object... values)
            throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(text)) {
            for (int at = 0; at < values.length; at++) {
                statement.setObject(at + 1, values[at]);
            }
            return rows(statement.executeQuery());
        }
    }

    private static int tell(Connection connection, String text) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return statement.executeUpdate(text);
        }
    }

    private static boolean isSimple(Connection connection) throws SQLException {
        var mode = connection.unwrap(PGConnection.class).getPreferQueryMode();
        return mode == PreferQueryMode.SIMPLE;
    }

    /** Nine times each, so that the driver begins to name its statements, then to ask for binary. */
    private static void values(Connection connection) throws Exception {
        Object[][] kinds = {
            {"int2", (short) -32768}, {"int4", Integer.MAX_VALUE}, {"int8", Long.MIN_VALUE},
            {"numeric", new BigDecimal("1.50")}, {"float8", 1e100}, {"float4", -0.5f},
            {"bool", true},
            {"text", "quo'te \\ \u00e9 \u6f22"}, {"bytea", new byte[] {0, -1, 92}},
            {"date", Date.valueOf("2024-02-29")},
            {"timestamp", Timestamp.valueOf("2024-02-29 12:30:01.5")},
            {"uuid", UUID.fromString("12345678-1234-5678-1234-567812345678")},
        };
        for (Object[] kind : kinds) {
            if (isSimple(connection) && kind[0].equals("bytea")) {
                // The driver can't write it into a text.
                continue;
            }
            String text = "SELECT CAST(? AS %s), CAST(NULL AS %s)".replace("%s", "" + kind[0]);
            try (PreparedStatement statement = connection.prepareStatement(text)) {
                List<String> seen = new ArrayList<>();
                for (int turn = 0; turn < 9; turn++) {
                    statement.setObject(1, kind[1]);
                    seen.addAll(rows(statement.executeQuery()));
                }
                statement.setNull(1, Types.NULL);
                show(kind[0] + "", seen + " " + rows(statement.executeQuery()));
            }
        }
        Array array = connection.createArrayOf("int4", new Integer[] {3, null, 1});
        String some = "SELECT id FROM items WHERE id = ANY (?) ORDER BY id";
        try (PreparedStatement statement = connection.prepareStatement(some)) {
            for (int turn = 0; turn < 7; turn++) {
                statement.setArray(1, array);
                show("array", rows(statement.executeQuery()));
            }
        }
        String arrays = "SELECT '{a,NULL,\"b c\"}'::text[], '{{1,2},{3,4}}'::int4[]";
        show("arrays", ask(connection, arrays));
        String others = "SELECT '{\"a\": [1]}'::jsonb, '[1,5)'::int4range, interval '1 day 2:03'";
        show("others", ask(connection, others));
        List<String> large = ask(connection, "SELECT repeat('x', 3000000) || ?", "y");
        show("large", large.get(0).length() + large.get(0).substring(2999999));
    }

    private static void reads(Connection connection) throws Exception {
        String one = "SELECT id, label, price, made FROM items WHERE id = ?";
        try (PreparedStatement point = connection.prepareStatement(one)) {
            if (!isSimple(connection)) {
                ResultSetMetaData columns = point.getMetaData();
                for (int column = 1; column <= columns.getColumnCount(); column++) {
                    show("column", columns.getColumnName(column) + " "
                            + columns.getColumnTypeName(column) + " " + columns.isNullable(column));
                }
                show("parameter", point.getParameterMetaData().getParameterTypeName(1));
            }
            for (int id = 0; id < 12; id++) {
                point.setInt(1, id);
                show("point", rows(point.executeQuery()));
            }
            point.setMaxRows(1);
            point.setInt(1, 5);
            show("one row", rows(point.executeQuery()));
        }
        show("count", ask(connection, "SELECT count(*), sum(price) FROM items"));
        try (Statement statement = connection.createStatement()) {
            boolean more = statement.execute(
                    "SELECT 1 AS a; SELECT 'x', NULL; UPDATE marks SET value = 1 WHERE false");
            while (more || statement.getUpdateCount() != -1) {
                Object count = statement.getUpdateCount();
                show("one of some", more ? rows(statement.getResultSet()) : count);
                more = statement.getMoreResults();
            }
            statement.setMaxRows(3);
            show("three rows", rows(statement.executeQuery("SELECT id FROM items ORDER BY id")));
        }
        DatabaseMetaData about = connection.getMetaData();
        List<String> names = new ArrayList<>();
        try (ResultSet columns = about.getColumns(null, "public", "items", "%")) {
            while (columns.next()) {
                names.add(columns.getString("COLUMN_NAME") + " " + columns.getString("TYPE_NAME"));
            }
        }
        try (ResultSet keys = about.getPrimaryKeys(null, "public", "marks")) {
            while (keys.next()) {
                names.add(keys.getString("COLUMN_NAME") + " " + keys.getString("PK_NAME"));
            }
        }
        show("catalogue", names);
    }

    private static void failures(Connection connection) throws Exception {
        failing("division", () -> ask(connection, "SELECT 1 / ?", 0));
        failing("syntax", () -> ask(connection, "SELECT 1 FRO items"));
        failing("no such table", () -> ask(connection, "SELECT * FROM nothing"));
        if (!connection.getAutoCommit()) {
            failing("after it", () -> ask(connection, "SELECT 1"));
            connection.rollback();
        }
        failing("check", () -> tell(connection, "INSERT INTO marks VALUES (1, -1)"));
        if (!connection.getAutoCommit()) {
            failing("committed", connection::commit);
        }
        show("usable", ask(connection, "SELECT count(*) FROM marks"));
    }

    private static void transactions(Connection connection) throws Exception {
        boolean automatic = connection.getAutoCommit();
        tell(connection, "DELETE FROM marks");
        if (!automatic) {
            connection.commit();
        }
        connection.setAutoCommit(false);
        String into = "INSERT INTO marks VALUES (?, ?, ?)";
        try (PreparedStatement insert = connection.prepareStatement(into)) {
            for (int id = 0; id < 300; id++) {
                insert.setInt(1, id);
                insert.setInt(2, id * 2);
                insert.setString(3, id % 2 == 0 ? null : "n" + id);
                insert.addBatch();
            }
            show("batch", Arrays.stream(insert.executeBatch()).sum());
            for (int id : new int[] {900, 5, 901}) {
                insert.setInt(1, id);
                insert.addBatch();
            }
            Savepoint before = connection.setSavepoint();
            failing("bad batch", () -> {
                try {
                    insert.executeBatch();
                } catch (java.sql.BatchUpdateException error) {
                    show("counts", Arrays.toString(error.getUpdateCounts()));
                    throw error.getNextException();
                }
            });
            connection.rollback(before);
        }
        show("own writes", ask(connection, "SELECT count(*), sum(value), count(note) FROM marks"));
        connection.commit();
        try (PreparedStatement insert = connection.prepareStatement(
                "INSERT INTO marks VALUES (?, 1)", Statement.RETURN_GENERATED_KEYS)) {
            insert.setInt(1, 1000);
            insert.executeUpdate();
            show("returned", rows(insert.getGeneratedKeys()));
        }
        connection.rollback();
        show("rolled back", ask(connection, "SELECT count(*) FROM marks"));
        connection.commit();
        connection.setReadOnly(true);
        connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        show("level", ask(connection, "SHOW transaction_isolation"));
        show("level", connection.getTransactionIsolation());
        failing("read only", () -> tell(connection, "DELETE FROM marks"));
        connection.rollback();
        connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        connection.setReadOnly(false);
        show("deleted", tell(connection, "DELETE FROM marks"));
        connection.commit();
        connection.setAutoCommit(automatic);
    }

    private static void cursors(Connection connection) throws Exception {
        boolean automatic = connection.getAutoCommit();
        connection.setAutoCommit(false);
        for (int turn = 0; turn < 7; turn++) {
            try (PreparedStatement statement =
                    connection.prepareStatement("SELECT id FROM items WHERE id <= ? ORDER BY id")) {
                statement.setFetchSize(7);
                statement.setInt(1, 30);
                show("fetched", rows(statement.executeQuery()).size());
            }
        }
        try (PreparedStatement statement = connection.prepareStatement(
                        "SELECT id FROM items ORDER BY id",
                        ResultSet.TYPE_SCROLL_INSENSITIVE,
                        ResultSet.CONCUR_READ_ONLY);
                ResultSet results = statement.executeQuery()) {
            results.absolute(500);
            int middle = results.getInt(1);
            results.last();
            show("scrolled", middle + " " + results.getInt(1));
        }
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(5);
            String text = "SELECT 12 / (8 - id) FROM items WHERE id < 20 ORDER BY id";
            failing("in a cursor", () -> rows(statement.executeQuery(text)));
        }
        connection.rollback();
        connection.setAutoCommit(automatic);
    }

    private static void copies(Connection connection) throws Exception {
        var copy = connection.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder lines = new StringBuilder();
        for (int id = 0; id < 2000; id++) {
            lines.append(id).append('\t').append(id).append("\t\\N\n");
        }
        show("copied in", copy.copyIn("COPY marks FROM STDIN", new StringReader(lines.toString())));
        StringWriter out = new StringWriter();
        String three = "COPY (SELECT * FROM marks WHERE id < 3 ORDER BY id) TO STDOUT CSV";
        show("copied out", copy.copyOut(three, out));
        show("lines", out.toString().replace("\n", ";"));
        var bad = new StringReader("x\ty\n");
        failing("bad line", () -> copy.copyIn("COPY marks FROM STDIN", bad));
        if (!connection.getAutoCommit()) {
            connection.rollback();
        }
        show("deleted", tell(connection, "DELETE FROM marks"));
        if (!connection.getAutoCommit()) {
            connection.commit();
        }
    }

    private static void sessions(Connection connection, Connection other) throws Exception {
        tell(connection, "DO $$ BEGIN RAISE NOTICE 'hello'; END $$");
        try (Statement statement = connection.createStatement()) {
            statement.execute("DO $$ BEGIN RAISE WARNING 'careful'; END $$");
            show("warning", statement.getWarnings().getMessage());
        }
        tell(connection, "SET application_name = 'java'");
        tell(connection, "SET TimeZone = 'Asia/Tokyo'");
        show("zone", ask(connection, "SHOW TimeZone"));
        show("text", ask(connection, "SELECT '2024-02-29 12:00+00'::timestamptz::text"));
        show("name", connection.unwrap(PGConnection.class).getParameterStatus("application_name"));
        connection.setSchema("pg_catalog");
        show("schema", connection.getSchema());
        show("in it", ask(connection, "SELECT count(*) > 0 FROM pg_class"));
        connection.setSchema("public");
        tell(connection, "LISTEN java");
        if (!connection.getAutoCommit()) {
            connection.commit();
        }
        tell(other, "NOTIFY java, 'said'");
        ask(connection, "SELECT 1");
        PGNotification[] heard = connection.unwrap(PGConnection.class).getNotifications(5000);
        show("heard", heard[0].getName() + " " + heard[0].getParameter());
        tell(connection, "UNLISTEN *");
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            failing("timed out", () -> statement.executeQuery("SELECT pg_sleep(20)"));
        }
        if (!connection.getAutoCommit()) {
            connection.rollback();
        }
        try (Statement statement = connection.createStatement()) {
            Thread canceller = new Thread(() -> {
                try {
                    Thread.sleep(300);
                    statement.cancel();
                } catch (Exception error) {
                    show("cancel", error);
                }
            });
            canceller.start();
            failing("cancelled", () -> statement.executeQuery("SELECT pg_sleep(20)"));
            canceller.join();
        }
        if (!connection.getAutoCommit()) {
            connection.rollback();
        }
        tell(connection, "RESET TimeZone");
        show("valid", connection.isValid(5));
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://127.0.0.1:" + arguments[0] + "/postgres";
        if (arguments.length == 2) {
            try (Connection connection = DriverManager.getConnection(url, "tester", "")) {
                for (int id = 1; id <= 20; id++) {
                    ask(connection, "SELECT label FROM items WHERE id = ?", id);
                }
            }
            return;
        }
        String[][] options = {
            {}, {"preferQueryMode", "simple"}, {"prepareThreshold", "1"}, {"prepareThreshold", "0"},
            {"autosave", "always"}, {"reWriteBatchedInserts", "true"}, {"defaultRowFetchSize", "3"},
            {"preferQueryMode", "extendedForPrepared"},
        };
        for (String[] option : options) {
            Properties properties = new Properties();
            properties.setProperty("user", "tester");
            if (option.length == 2) {
                properties.setProperty(option[0], option[1]);
            }
            for (boolean automatic : new boolean[] {true, false}) {
                String title = String.join("=", option) + (automatic ? "" : " by hand");
                try (Connection connection = DriverManager.getConnection(url, properties);
                        Connection other = DriverManager.getConnection(url, properties)) {
                    connection.setAutoCommit(automatic);
                    values(connection);
                    reads(connection);
                    failures(connection);
                    transactions(connection);
                    cursors(connection);
                    copies(connection);
                    if (option.length == 0 || isSimple(connection)) {
                        sessions(connection, other);
                    }
                    show("done", title);
                    if (!automatic) {
                        connection.commit();
                    }
                }
            }
        }
        failing("no such database", () -> DriverManager.getConnection(url + "x", "tester", ""));
    }
}
