//! Who may come, as far as that can be told before anybody does.

use super::report::Finding;
use crate::config::{Auth, ClusterConfig};

/// Finds roles that nobody can come as, and leaves out those whose login to the servers can't be
/// tried: they log in with what their clients prove themselves with.
pub(super) fn look(
    cluster: &ClusterConfig,
    auth: &Auth,
    findings: &mut Vec<Finding>,
) -> ClusterConfig {
    let mut checked = cluster.clone();
    let Auth::Scram(users) = auth else { return checked };
    for user in &cluster.users {
        if users.verifier(&user.name).is_none() && cluster.auth_query.is_none() {
            let text =
                format!("nobody can come as `{}`: the users file does not have it", user.name);
            let fix = format!("add the line that `sortie user {}` prints", user.name);
            findings.push(Finding::warning(&cluster.name, text).fix(fix));
        } else if user.name != cluster.role() && user.credential.is_none() {
            let text = format!(
                "`{}` logs in to the servers with the keys that its client proves itself with: its \
                 secret must be the same here and there; that is not checked",
                user.name,
            );
            findings.push(Finding::note(&cluster.name, text));
        }
    }
    let own = cluster.role().to_owned();
    checked.users.retain(|user| user.name == own || user.credential.is_some());
    checked
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{UserConfig, Users};

    #[test]
    fn roles_are_tried_that_have_something_to_log_in_with() {
        let mut cluster = ClusterConfig::named("bank");
        let user = |name| UserConfig::of(&ClusterConfig::named("bank"), name);
        cluster.users = vec![user("keeper"), user("alice")];
        let mut found = Vec::new();
        assert_eq!(look(&cluster, &Auth::Trust, &mut found).users.len(), 2);
        assert!(found.is_empty());
        let nobody = Auth::Scram(Arc::new(Users::default()));
        assert_eq!(look(&cluster, &nobody, &mut found).users, [user("keeper")]);
        assert_eq!(found.len(), 2);
        assert!(format!("{found:?}").contains("nobody can come as `alice`"), "{found:?}");
        cluster.auth_query = Some("SELECT $1".to_owned());
        found.clear();
        look(&cluster, &nobody, &mut found);
        assert_eq!(found.len(), 1);
        assert!(format!("{found:?}").contains("`alice` logs in to the servers"), "{found:?}");
    }
}
