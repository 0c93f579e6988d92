//! Prepared statements that are gone without anybody's having said so.

use sortie_testkit::{Batch, Frame, Postgres, Wire};

use crate::lazy::answers;
use crate::relay::start;
use crate::support::among_others;

/// A view that takes away all prepared statements of whoever reads it: nobody can tell by its name.
const FORGET: &str = "CREATE ROLE reader LOGIN;
    CREATE FUNCTION forget() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN 1; END $$;
    CREATE VIEW forgotten AS SELECT forget(); GRANT SELECT ON forgotten TO reader;";

/// Nobody shares what asks for the time.
fn prepare(number: u32) -> Batch {
    Batch::new().parse("s", &format!("SELECT {number}, now() IS NULL"), &[]).sync()
}

fn run() -> Batch {
    Batch::new().bind("", "s", (0, &[]), 0).execute("").sync()
}

#[tokio::test]
async fn a_statement_that_is_prepared_again_is_the_new_one_everywhere() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script(FORGET).await;
    let there = postgres.listen();
    let url = format!("postgres://reader@{there}/postgres");
    // One connection for all: whoever has it next takes away what was left there.
    let (server, _config) = start(&[url], 1).await;
    let forget = || Batch::new().query("SELECT * FROM forgotten");
    let script = [prepare(1), run(), prepare(3), forget(), run(), prepare(2), run()];
    let ours = answers(server.listen(), "postgres", &script).await;
    assert_eq!(ours, answers(there, "postgres", &script).await);

    let mut wire = Wire::connect_as(server.listen(), "reader").await;
    for batch in &script {
        wire.ask(batch).await;
    }
    let mut other = Wire::connect_as(server.listen(), "reader").await;
    other.rows("SELECT now() IS NULL").await;
    let answer = wire.ask(&run()).await;
    let row = answer.iter().find_map(Frame::row);
    assert_eq!(row.unwrap()[0].as_deref(), Some("2"), "{answer:?}");
    drop((wire, other));
    server.abandoned().await;
    server.stop().await;
    postgres.stop().await;
}
