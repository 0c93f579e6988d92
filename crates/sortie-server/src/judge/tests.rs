//! Verdicts, on what is known of a database by hand.

use super::*;
use crate::sql::{
    Catalog, Collation, Relation, RelationKind, Table, TableColumn, Type, Vocabulary,
};

fn column(name: &str, ty: Type, nullable: bool, collation: Collation) -> TableColumn {
    TableColumn { name: name.into(), ty, number: 1, modifier: -1, nullable, collation }
}

fn table(name: &str, columns: Vec<TableColumn>, placement: Placement) -> (Arc<str>, Relation) {
    let schema: Arc<str> = "public".into();
    let table = Table { schema: schema.clone(), name: name.into(), oid: 7, columns, placement };
    (name.into(), Relation { schema, kind: RelationKind::Table(table.into()) })
}

fn opaque(name: &str, schema: &str, kind: RelationKind) -> (Arc<str>, Relation) {
    (name.into(), Relation { schema: schema.into(), kind })
}

pub(super) fn known() -> Arc<Known> {
    let users = vec![
        column("user_id", Type::Int8, false, Collation::C),
        column("name", Type::Text, false, Collation::C),
        column("balance", Type::Int8, false, Collation::C),
        column("nick", Type::Text, true, Collation::C),
        column("title", Type::Text, false, Collation::Deterministic),
        column("rate", Type::Numeric, false, Collation::C),
        column("born", Type::of_column(1082, 4), false, Collation::C),
        column("age", Type::Int4, true, Collation::C),
    ];
    let code = vec![column("code", Type::Text, false, Collation::C)];
    let relations = [
        table("users", users, Placement::Sharded(0)),
        table("countries", code.clone(), Placement::Reference),
        table("stray", code.clone(), Placement::Local),
        table("twice", code, Placement::Local),
        opaque("twice", "other", RelationKind::Opaque("a view")),
        opaque("rich", "public", RelationKind::Opaque("a view")),
        opaque("seen", "public", RelationKind::Steady("a view")),
        opaque("tables", "information_schema", RelationKind::System),
    ];
    let system = [
        "pg_class",
        "pg_namespace",
        "pg_settings",
        "pg_roles",
        "pg_stats",
        "pg_stat_activity",
        "pg_stat_user_tables",
        "pg_statio_user_tables",
        "pg_statistic",
        "pg_statistic_ext",
        "pg_locks",
        "pg_sequences",
        "pg_attribute",
    ]
    .map(Arc::from);
    let functions = [
        "count",
        "now",
        "pg_sleep",
        "lower",
        "pg_table_is_visible",
        "generate_series",
        "pg_get_userbyid",
        "pg_total_relation_size",
        "pg_relation_size",
        "pg_stat_get_live_tuples",
        "pg_sequence_last_value",
        "txid_current",
        "sum",
        "to_jsonb",
        "array_agg",
    ];
    let vocabulary = Vocabulary {
        functions: functions.map(Arc::from).into(),
        steady: ["count", "lower", "max", "min", "sum", "generate_series", "to_jsonb", "array_agg"]
            .map(Arc::from)
            .into(),
        unsteady: ["now", "pg_sleep", "random", "txid_current", "table_to_xml"]
            .map(Arc::from)
            .into(),
        made: ["total", "mood", "balance_of"].map(Arc::from).into(),
        operators: ["===".into()].into(),
        hiding: ["hiding".into()].into(),
        seen: ["balance_of".into()].into(),
        ..Vocabulary::default()
    };
    let catalog = Catalog::new(relations, system, false);
    Arc::new(Known { catalog, vocabulary, reads_committed: true, ..Known::default() })
}

/// The verdict as one word, or the code of the refusal.
fn verdict(text: &str, shards: usize, alone: bool) -> String {
    match Judge::new(shards).judge(text, &[], alone, &known()) {
        Opinion::Share(_) => "share".to_owned(),
        Opinion::Pipe(_) => "pipe".to_owned(),
        Opinion::Refuse(error) => error.code.to_owned(),
    }
}

#[test]
fn reads_of_plain_tables_are_shared_on_one_shard() {
    for text in [
        "select * from users where user_id = $1",
        "SELECT name, born FROM public.users ORDER BY 1 LIMIT 3;",
        "select count(*), max(balance), sum(rate), min(title) from users /* trace 7 */",
        "select code from countries",
        "select nick, age from users where nick is null and age > 3 order by age",
        "select * from users, countries",
        "select u.name, count(*) from users u left join countries c on c.code = lower(u.nick) \
         where u.age between 3 and $1 group by 1 having count(*) > 2 order by 2 desc limit 10",
        "with old (a) as (select name from users where age > 90) select * from old where a <> 'x'",
        "(select name from users) union all (select code from public.countries)",
        "select case when age is null then 0 else sum(balance) over (partition by age) end, \
         array(select code from countries) from users where (select count(*) from stray) > 0",
        "select n, exists (select 1 from users where age = n) from generate_series(1, 3) as g (n)",
        "select to_jsonb(u) from users u",
        "select (u).name, (u.name).lower from users u",
        "select x from users where born = '2000-01-01' and name = 'I know'",
        "select name from users where mood_of is null and title = 'snow'",
        "select * from seen",
        "select current_user, user, current_schema from users u join public.seen on true",
        "select current_setting('app.tenant'), current_setting('a.b'::text, true) from users",
        "select app.balance_of(user_id), b from users, balance_of(7) as b",
        "select b from users, app.balance_of(user_id) b",
    ] {
        assert_eq!(verdict(text, 1, false), "share", "{text}");
        assert_eq!(verdict(text, 3, true), "share", "{text}");
    }
}

#[test]
fn everything_else_goes_to_a_server_on_one_shard() {
    for text in [
        "select 1",
        "select now() from users",
        "select * from rich",
        "select * from twice",
        "select * from nowhere",
        "select * from pg_class",
        "insert into users values (1)",
        "begin",
        "select count(*) from users join rich on true",
        "select * from twice join users on true",
        "select * from (select * from nowhere) n, users",
        "select u.* from users u, lateral random()",
        "with random as (select 1) select random() from users",
        "select random() as lower from users",
        "select 1 as random(1) from users",
        "select current_date from users",
        "select name from users where born = 'Today'",
        "select name from users where born < ' now'::date",
        "select system_user from users",
        "select current_setting('work_mem') from users",
        "select current_setting('a.b' || 'c') from users",
        "select current_setting('work_mem.x'::varchar(8)) from users",
        "select current_setting('Sortie.lane') from users",
        "select current_setting(name) from users",
        "select total(balance) from users",
        "select balance_of(total(1)) from users",
        "select balance_of(1)",
        "select balance === 1 from users",
        "select 'happy'::mood from users",
        "select other.lower(name) from users",
        "select lower(name) into x from users",
        "select (user_id).pg_sleep from users",
        "select (array_agg(user_id))[1].\"pg_sleep\" from users",
        "select $1.txid_current from users",
        "with gone as (delete from users returning *) select * from gone",
        "select * from users tablesample system (1)",
        "select * from users for no key update",
        "select balance operator(pg_catalog.+) 1 from users",
        "select (select relname from pg_class limit 1) from users",
        "select table_name from information_schema.tables, users",
        "select b'1' from users",
        "values (1)",
        "table users",
        "explain select * from users",
        "select 'x",
        "select * from users for update",
        "select 1; select * from users",
    ] {
        assert_eq!(verdict(text, 1, false), "pipe", "{text}");
    }
}

#[test]
fn reads_that_can_be_merged_are_shared_on_several_shards() {
    for text in [
        "select * from users where user_id = $1",
        "select nick, born, rate, balance from users where name = 'x' order by balance limit 3",
        "select nick from users",
        "select count(*), count(nick), sum(balance), sum(age), min(name), max(age) from users",
        "select title from users where title = 'x' and title < 'y'",
    ] {
        assert_eq!(verdict(text, 2, false), "share", "{text}");
    }
}

#[test]
fn what_depends_on_no_row_goes_to_any_server() {
    for text in [
        "",
        "select 1",
        "select now(), pg_sleep(1)",
        "select relname from pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace",
        "select * from countries",
        "select lower(code) from countries where code in (select code from countries)",
        "with x as (select 1 as a) select * from x",
        "select * from information_schema.tables",
        "values (1), (2)",
        "show all",
        "set search_path = public",
        "begin",
        "rollback",
        "select count(*) from generate_series(1, 3)",
        "declare c cursor for select relname from pg_class",
        "explain select * from pg_namespace",
        "select 1; select 2",
        "select stxname from pg_statistic_ext",
        "select sequencename, start_value from pg_sequences",
        "select count(*), 2 * 3 from pg_class",
        "select x.relname from (pg_class x join pg_namespace n on n.oid = x.relnamespace) \
         left join (select * from pg_attribute) a on a.attrelid = x.oid",
        "with tree as (select oid, relname from pg_class c where (c.oid, c.relname) is not null) \
         select distinct *, 1 as one from tree",
        "select 'reltuples' as last_value from pg_class as c group by c.oid",
        "SELECT n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner) as \"Owner\" \
         FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r','p','') AND n.nspname !~ '^pg_toast' \
         AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2;",
    ] {
        assert_eq!(verdict(text, 2, false), "pipe", "{text}");
    }
}

#[test]
fn what_might_be_one_shards_rows_is_refused() {
    for (text, code) in [
        ("select * from users order by nick", "0A000"),
        ("select * from users where nick = 'x'", "0A000"),
        ("select * from users where nick is null", "0A000"),
        ("select * from users where age > 3", "0A000"),
        ("select max(title) from users", "0A000"),
        ("select title from users order by title", "0A000"),
        ("select sum(rate) from users", "0A000"),
        ("select * from users where 'a' < 'B'", "0A000"),
        ("select * from users where rate = 1", "0A000"),
        ("select * from users u join users v on u.user_id = v.user_id", "0A000"),
        ("select * from (select * from users) u", "0A000"),
        ("with u as (select * from users) select * from u", "0A000"),
        ("with users as (select 1 as a) select * from users", "0A000"),
        ("select exists (select 1 from users)", "0A000"),
        ("select (select count(*) from users)", "0A000"),
        ("select relname from pg_class where oid in (select user_id from users)", "0A000"),
        ("select rank() over (order by balance) from users", "0A000"),
        ("select name from users union select code from countries", "0A000"),
        ("select * from countries, users", "0A000"),
        ("select * from stray", "0A000"),
        ("select * from twice", "0A000"),
        ("select * from rich", "0A000"),
        ("select * from seen", "0A000"),
        ("table users", "0A000"),
        ("table countries", "0A000"),
        ("select total()", "0A000"),
        ("select public.total()", "0A000"),
        ("select c.total from pg_class c", "0A000"),
        ("select 'happy'::mood", "0A000"),
        ("select 1 === 2", "0A000"),
        ("select ('users'::text).table_to_xml from pg_namespace", "0A000"),
        ("select query_to_xml('select * from users', true, true, '')", "0A000"),
        ("select U&\"users\".name from pg_class", "0A000"),
        ("select nextval('s')", "25006"),
        ("select * from nowhere", "42P01"),
        ("select nowhere from users", "42703"),
        ("select oid from pg_class, nowhere", "42P01"),
        ("insert into users values (1)", "25006"),
        ("insert into countries values ('x')", "25006"),
        ("update countries set code = 'x'", "25006"),
        ("with d as (delete from countries returning *) select * from d", "25006"),
        ("select * into x from pg_class", "25006"),
        ("select * from countries for update", "25006"),
        ("create temp table t (x int)", "25006"),
        ("copy users to stdout", "0A000"),
        ("copy (select * from users) to stdout", "0A000"),
        ("copy countries from stdin", "25006"),
        ("do $$ begin perform 1; end $$", "0A000"),
        ("call total()", "0A000"),
        ("prepare p as select * from users", "0A000"),
        ("execute p", "0A000"),
        ("declare c cursor for select * from users", "0A000"),
        ("explain select * from users", "0A000"),
        ("listen users", "0A000"),
        ("lock table users", "0A000"),
        ("select * from users; select 1", "0A000"),
        ("select 1; select * from users", "0A000"),
        ("begin; insert into users values (1); commit", "0A000"),
        ("vacuum", "25006"),
        ("select * from users where", "42601"),
        ("select 'x", "42601"),
        ("selekt 1", "42601"),
    ] {
        assert_eq!(verdict(text, 2, false), code, "{text}");
    }
}

#[test]
fn what_tells_of_one_servers_rows_is_refused() {
    for text in [
        "select * from pg_stats",
        "select histogram_bounds from pg_catalog.pg_stats where tablename = 'users'",
        "select count(*) from pg_statistic",
        "select n_live_tup from pg_stat_user_tables",
        "select heap_blks_hit from \"pg_statio_user_tables\"",
        "select pid from pg_stat_activity",
        "select count(*) from pg_locks",
        "select data from pg_largeobject",
        "select relfilenode from pg_class",
        "select reltuples from pg_class where relname = 'users'",
        "select c.\"reltuples\"::bigint from pg_catalog.pg_class c",
        "select sum(relpages) from pg_class",
        "select relname from pg_class order by relallvisible",
        "select * from pg_class",
        "select oid, * from pg_namespace, pg_class",
        "select c.* from pg_namespace n join pg_class c on c.relnamespace = n.oid",
        "select (c).oid from (select c from pg_class c) x",
        "select to_jsonb(c) from pg_class as c",
        "select to_jsonb(pg_class) from pg_class",
        "select oid, pg_class from pg_class",
        "select c from pg_class c",
        "select 1 from pg_class c where c::text > ''",
        "select e from pg_class as c(a, b, d, e)",
        "select j.k from (pg_class c cross join pg_namespace) as j(k)",
        "with x as (select * from pg_class) select count(*) from x",
        "select last_value from pg_sequences",
        "select * from pg_sequences",
        "select pg_total_relation_size('users')",
        "select relname, pg_catalog.pg_relation_size(oid) from pg_class",
        "select pg_stat_get_live_tuples(1)",
        "select pg_sequence_last_value(1)",
        "select txid_current()",
        "explain analyze select * from pg_stats",
        "declare c cursor for select * from pg_class",
        "select 1; select reltuples from pg_class",
    ] {
        let judged = Judge::new(2).judge(text, &[], false, &known());
        let Opinion::Refuse(error) = judged else { panic!("{text}: {judged:?}") };
        assert_eq!(error.code, "0A000", "{text}");
        assert!(error.message.contains("of one server's rows"), "{text}: {error:?}");
        assert!(error.hint.is_some() && error.position.is_some(), "{text}");
        assert_eq!(verdict(text, 2, true), "pipe", "{text}");
        assert_eq!(verdict(text, 1, false), "pipe", "{text}");
    }
}

#[test]
fn a_refusal_points_into_the_text_that_was_sent() {
    let text = "/* é */ select /* trace */ title from users order by /* x */ title";
    let Opinion::Refuse(error) = Judge::new(2).judge(text, &[], false, &known()) else {
        panic!("it is refused")
    };
    let place = text.chars().take(error.position.unwrap() - 1).collect::<String>();
    assert!(text[place.len()..].starts_with("title"), "{error:?}");
}

#[test]
fn a_verdict_is_given_once_for_all_comments() {
    let (judge, known) = (Judge::new(1), known());
    let share = |text: &str| match judge.judge(text, &[], false, &known) {
        Opinion::Share(proof) => proof,
        other => panic!("{other:?}"),
    };
    let first = share("select name from users /* 1 */");
    let second = share("select name from users /* 2 */");
    assert!(Arc::ptr_eq(&first.judged, &second.judged));
    assert_eq!(&*second.text, "select name from users /* 2 */");
    assert!(!Arc::ptr_eq(&first.judged, &share("select name from  users").judged));
}
