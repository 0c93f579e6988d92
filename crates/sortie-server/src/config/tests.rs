use super::*;

#[test]
fn a_client_asks_for_a_cluster_or_one_shard_of_it() {
    let mut config = Config::empty();
    for (name, shards) in [("bank", 2), ("bank.1", 1)] {
        let mut cluster = ClusterConfig::named(name);
        cluster.shards = vec![ShardConfig { primary: None, replicas: Vec::new() }; shards];
        config.clusters.push(cluster);
    }
    let asked = |database| config.cluster(database).map(|(found, shard)| (&*found.name, shard));
    assert_eq!(asked("bank"), Some(("bank", None)));
    assert_eq!(asked("bank.0"), Some(("bank", Some(0))));
    assert_eq!(asked("bank.1"), Some(("bank.1", None)), "a cluster's own name goes first");
    assert_eq!(asked("bank.1.0"), Some(("bank.1", Some(0))));
    for nobody in ["bank.2", "bank.", "bank.-1", "BANK", "", ".0"] {
        assert_eq!(asked(nobody), None, "{nobody}");
    }
}

#[test]
fn what_is_secret_is_not_shown() {
    let url = "postgres://reader:geheim@db/bank".to_owned();
    let server = ServerConfig { name: "db:5432".into(), url };
    assert!(!format!("{server:?}").contains("geheim"));
}
