//! The first bytes of a connection.

use super::batch;
use crate::differ::Script;

pub(in crate::differ) fn all() -> Vec<Script> {
    vec![
        Script::new("startup: nothing is asked"),
        Script::new("startup: parameters of its own")
            .parameter("application_name", "starter")
            .parameter("client_encoding", "LATIN1")
            .parameter("TimeZone", "Asia/Tokyo")
            .parameter("DateStyle", "German")
            .query("SHOW application_name")
            .query("SELECT '2024-02-29 12:00+00'::timestamptz")
            .query("RESET TimeZone")
            .query("SHOW TimeZone")
            .query("SET TimeZone = 'UTC'")
            .query("DISCARD ALL")
            .query("SHOW TimeZone"),
        Script::new("startup: options")
            .parameter("options", "-c work_mem=9MB --extra-float-digits=0 -c my.own=a\\ b")
            .query("SHOW work_mem")
            .query("SELECT 0.1::float8 + 0.2::float8, current_setting('my.own')")
            .query("RESET ALL")
            .query("SHOW work_mem"),
        Script::new("startup: options with blanks that are escaped")
            .parameter("options", "-c my.own=a\\\tb\\\\c\x0b--my.other=\\ \\\n\t-c my.third=d\\")
            .query("SELECT current_setting('my.own'), current_setting('my.other')")
            .query("SELECT current_setting('my.third') FROM items WHERE id = 7"),
        Script::new("startup: search_path decides")
            .parameter("search_path", "pg_catalog")
            .query("SELECT count(*) FROM items")
            .query("SELECT count(*) FROM public.items"),
        Script::new("startup: a parameter that does not exist")
            .parameter("no_such_parameter", "1")
            .query("SELECT 1"),
        Script::new("startup: a value that cannot be")
            .parameter("TimeZone", "Nowhere/Land")
            .query("SELECT 1"),
        Script::new("startup: an extension of the protocol that nobody knows")
            .parameter("_pq_.unknown", "1")
            .query("SELECT 1"),
        Script::new("startup: no such database").loose().parameter("database", "nowhere"),
        Script::new("startup: no such user").loose().parameter("user", "nobody_here"),
        Script::new("startup: the client asks for SSL and goes")
            .bare_startup(&[0, 0, 0, 8, 4, 210, 22, 47])
            .half_close()
            .until_end(),
        Script::new("startup: a version from the future")
            .bare_startup(b"\0\0\0\x27\0\x03\0\x09user\0tester\0database\0postgres\0\0")
            .until(b'Z', 1)
            .ask(batch().query("SELECT 1")),
        Script::new("startup: left at once").bare_startup(b"").half_close().until_end(),
    ]
}
