use super::*;

fn serve(arguments: &[&str]) -> Result<Serve, clap::Error> {
    let arguments = ["sortie", "serve"].iter().chain(arguments);
    let command = Cli::try_parse_from(arguments)?.command;
    command.check()?;
    let Command::Serve(serve) = command else { panic!("it is `serve`") };
    Ok(*serve)
}

fn refused(arguments: &[&str], because: &[&str]) {
    let text = serve(arguments).expect_err("it must be refused").to_string();
    for words in because {
        assert!(text.contains(words), "{arguments:?} must say {words:?}: {text}");
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn embedded_needs_nothing_else() {
    let serve = serve(&["--embedded"]).unwrap();
    assert_eq!((serve.listen, serve.admin, serve.hedge), (None, None, None));
    assert_eq!((serve.rows, serve.data), (100_000, None));
}

#[test]
fn trouble_can_be_asked_for_again_and_again() {
    let serve = serve(&[
        "--embedded",
        "--latency=fixed:5ms",
        "--latency",
        "0.1=stall:1%:200ms",
        "--fail=1",
        "--hedge=off",
    ])
    .unwrap();
    assert_eq!((serve.latency.len(), serve.fail.len()), (2, 1));
    assert_eq!(serve.hedge, Some(HedgeDelay(None)));
}

#[test]
fn a_start_that_serves_nothing_lists_the_three_ways() {
    refused(&[], &["--embedded", "-c sortie.toml", "-d postgres://"]);
}

#[test]
fn a_check_needs_servers() {
    let command = |arguments: &[&str]| {
        let command = Cli::try_parse_from(["sortie", "check"].iter().chain(arguments))?.command;
        command.check().map(|()| command)
    };
    let refused = command(&[]).unwrap_err().to_string();
    assert!(refused.contains("check -c sortie.toml") && refused.contains("-d"), "{refused}");
    let accepted = command(&["-d=postgres://r@a/b", "--json", "--timeout=1s"]).unwrap();
    let Command::Check(check) = accepted else { panic!("it is `check`") };
    assert!(check.json && check.timeout == Duration::from_secs(1));
    assert!(command(&["-c=a", "-d=b"]).is_err());
}

#[test]
fn there_is_one_thing_to_serve() {
    for two in [
        ["--embedded", "-c", "sortie.toml"],
        ["--embedded", "-d", "postgres://r@a/b"],
        ["-csortie.toml", "-d", "postgres://r@a/b"],
        ["-csortie.toml", "--hedge", "off"],
        ["-csortie.toml", "--mode", "observe"],
        ["--embedded", "--mode", "observe"],
        ["-csortie.toml", "--rows", "1"],
    ] {
        refused(&two, &["cannot be used with"]);
    }
}

#[test]
fn flags_go_before_a_configuration() {
    let serve = serve(&["-d=postgres://r@a/b", "--listen=[::1]:0", "--hedge=off"]).unwrap();
    let mut config = serve.servers.load().unwrap().config;
    serve.override_in(&mut config);
    assert_eq!((config.listen.to_string(), config.connections_max), ("[::1]:0".into(), 900));
    assert_eq!(config.clusters[0].hedge, None);
    assert_eq!(config.clusters[0].soft_age, Duration::from_secs(5));
}

#[test]
fn a_database_can_be_observed_without_a_file() {
    for (flags, mode) in [(&[][..], Mode::Share), (&["--mode", "observe"][..], Mode::Observe)] {
        let serve = serve(&[&["-d=postgres://r@a/b"], flags].concat()).unwrap();
        let mut config = serve.servers.load().unwrap().config;
        serve.override_in(&mut config);
        let cluster = &config.clusters[0];
        assert_eq!((cluster.mode, cluster.users[0].mode), (mode, mode));
    }
    refused(&["-d=postgres://r@a/b", "--mode", "watch"], &["share, observe, pipe"]);
}

#[test]
fn addresses_that_others_can_reach_are_refused_with_the_reason() {
    refused(&["--embedded", "--listen", "0.0.0.0:6440"], &["without authentication", "loopback"]);
    refused(&["--embedded", "--admin", "[::]:1"], &["who they are", "loopback"]);
    refused(&["-d=postgres://r@a/b", "--listen", "192.168.1.1:6440"], &["auth = \"scram\""]);
    refused(&["--embedded", "--listen", "example.com:6440"], &["write ADDRESS:PORT"]);
    let serve = serve(&["--embedded", "--listen", "[::1]:0", "--admin", "localhost:1"]).unwrap();
    assert_eq!(serve.listen.map(|it| it.to_string()).as_deref(), Some("[::1]:0"));
    assert_eq!(serve.admin.map(|it| it.to_string()).as_deref(), Some("127.0.0.1:1"));
    // What the file says decides.
    assert!(self::serve(&["-csortie.toml", "--listen", "0.0.0.0:6440"]).is_ok());
}

#[test]
fn values_that_can_not_be_read_are_explained() {
    refused(&["--embedded", "--hedge", "soon"], &["`70ms`", "`off`"]);
    refused(&["--embedded", "--hedge", "0ms"], &["above zero"]);
    refused(&["--embedded", "--soft-age", "5"], &["`1s`"]);
    refused(&["--embedded", "--latency", "slow"], &["lognormal:50ms:0.1"]);
    refused(&["--embedded", "--fail", "x"], &["SHARD.REPLICA"]);
    refused(&["--latency", "fixed:5ms"], &["--embedded"]);
}
