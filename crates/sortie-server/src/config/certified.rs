//! Clients' certificates: who vouches for them, and who may come with which.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::section::Section;
use super::{Auth, Config, Tls};

/// What a client's certificate must say.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum CertCheck {
    /// Nothing: an authority vouches for it.
    Ca,
    /// Who it belongs to, by its common name, must be who its client says.
    #[default]
    Full,
}

/// That clients have to show certificates.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Certified {
    pub(crate) check: CertCheck,
    /// The roles that a common name may come as, if not as the one of that name.
    names: BTreeMap<String, Vec<String>>,
}

impl Certified {
    /// Whether the certificate of this common name is good for this role.
    pub(crate) fn admits(&self, name: &str, role: &str) -> bool {
        match self.names.get(name) {
            Some(roles) => roles.iter().any(|known| known == role),
            None => name == role,
        }
    }
}

/// Reads what is asked of clients' certificates, when it is known who vouches for them.
pub(super) fn read(top: &Section<'_, '_>, config: &mut Config) {
    let authority = top.value::<PathBuf>("tls_client_ca");
    let check = top.value::<CertCheck>("clientcert");
    let names = top.named_strings("certificates");
    let by_certificate = config.auth == Auth::Certificate;
    let Some((_file, span)) = authority else {
        let asked = [("auth", by_certificate), ("clientcert", check.is_some())];
        let asked = asked.into_iter().chain([("certificates", !names.is_empty())]);
        for (key, _) in asked.filter(|(_, is_asked)| *is_asked) {
            let text = format!(
                "`{key}` is about clients' certificates, and nobody vouches for these: write \
                 `tls_client_ca = \"FILE\"`"
            );
            top.problem(top.value_span(key), text);
        }
        return;
    };
    if !matches!(config.tls, Tls::Require(_)) {
        let text = "`tls_client_ca`: certificates are shown on encrypted connections only: write \
                    `tls = \"require\"`";
        top.problem(span, text);
    }
    let check = check.map_or(CertCheck::Full, |(check, span)| {
        if check == CertCheck::Ca && (by_certificate || !names.is_empty()) {
            let text = "`clientcert`: where the certificate says who somebody is, it is \
                        \"verify-full\"";
            top.problem(span, text);
        }
        check
    });
    config.certified = Some(Certified { check, names: names.into_iter().collect() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_good_for_its_own_role_or_for_those_that_are_written() {
        let mut certified = Certified::default();
        assert!(certified.admits("reader", "reader") && !certified.admits("reader", "writer"));
        let roles = vec!["writer".to_owned(), "admin".to_owned()];
        certified.names.insert("app.example".to_owned(), roles);
        for (role, is_good) in [("writer", true), ("admin", true), ("app.example", false)] {
            assert_eq!(certified.admits("app.example", role), is_good, "{role}");
        }
        assert!(!certified.admits("APP.example", "writer"));
    }
}
