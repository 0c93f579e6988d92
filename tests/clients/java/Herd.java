import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * A herd of callers through JDBC: what ../herd.py is. As the driver comes each read is a
 * transaction of its own; with "transactions" it is in one that JDBC begins ahead of it, in the
 * same batch.
 *
 * <p>Usage: Herd DRIVER FOLDER PORT; DRIVER is jdbc or jdbc.transactions.
 */
public final class Herd {
    private static final int CALLERS =
            Integer.parseInt(System.getenv().getOrDefault("HERD_CALLERS", "200"));

    private static String read(Connection connection, int caller) throws Exception {
        String trace = String.format("00-%032x-%016x-01", caller, caller);
        String text =
                "SELECT user_id, name FROM users WHERE user_id = ? /*traceparent='" + trace + "'*/";
        try (PreparedStatement statement = connection.prepareStatement(text)) {
            statement.setLong(1, 2);
            String row;
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                row = rows.getLong(1) + " " + rows.getString(2);
            }
            if (!connection.getAutoCommit()) {
                connection.commit();
            }
            return row;
        }
    }

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[1]);
        String address = "jdbc:postgresql://127.0.0.1:" + arguments[2] + "/postgres?user=reader";
        List<Connection> connections = new ArrayList<>();
        for (int caller = 0; caller < CALLERS; caller++) {
            Connection connection = DriverManager.getConnection(address);
            connection.setAutoCommit(arguments[0].equals("jdbc"));
            connections.add(connection);
        }
        Files.createFile(folder.resolve("ready"));
        while (!Files.exists(folder.resolve("go"))) {
            Thread.sleep(10);
        }
        ExecutorService threads = Executors.newFixedThreadPool(CALLERS);
        List<Future<String>> asked = new ArrayList<>();
        for (int caller = 0; caller < CALLERS; caller++) {
            int own = caller;
            asked.add(threads.submit(() -> read(connections.get(own), own)));
        }
        List<String> answers = new ArrayList<>();
        for (Future<String> one : asked) {
            answers.add(one.get());
        }
        threads.shutdown();
        int different = new HashSet<>(answers).size();
        System.out.println(answers.size() + " answers, " + different + " different");
        for (Connection connection : connections) {
            connection.close();
        }
    }
}
