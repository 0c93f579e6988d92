//! Reading what stands between a client and a session: proof and encryption.

use std::path::PathBuf;
use std::sync::Arc;

use super::section::Section;
use super::server::Secrets;
use super::tls::{Identity, Unusable};
use super::users::Users;
use super::value::{Demand, Wanted};
use super::{Auth, Config, Tls};

/// How clients prove who they are: nobody is let in without proof by mistake.
pub(super) fn auth(top: &Section<'_, '_>, config: &mut Config, secrets: &Secrets) {
    let demand = top.value::<Demand>("auth").map(|(demand, _span)| demand);
    let users = top.value::<PathBuf>("users");
    match (demand, users) {
        (Some(Demand::Scram), Some((file, span))) => match Users::load(&secrets.beside(&file)) {
            Ok(users) => config.auth = Auth::Scram(Arc::new(users)),
            Err(what) => top.problem(span, format!("`users`: {what}")),
        },
        (Some(Demand::Scram), None) => {
            let text = "`auth = \"scram\"` needs `users = \"FILE\"`: a line for each user, which \
                        `sortie user NAME` makes";
            top.problem(top.value_span("auth"), text);
        }
        (Some(Demand::Trust), Some((_file, span))) => {
            let text = "with `auth = \"trust\"` nobody is asked for a password: take `users` away, \
                        or write `auth = \"scram\"`";
            top.problem(span, text);
        }
        (Some(Demand::Trust), None) => {
            if let Some(text) = config.too_open() {
                top.problem(top.value_span("listen"), format!("`listen`: {text}"));
            }
        }
        (None, _) if top.has("auth") => {}
        (None, _) => top.whole_problem(
            "who may connect? Write `auth = \"scram\"` and `users = \"FILE\"`, or `auth = \
             \"trust\"` if everybody on this machine may come as anybody",
        ),
    }
}

/// Whether clients' connections are encrypted, and with what.
pub(super) fn tls(top: &Section<'_, '_>, config: &mut Config, secrets: &Secrets) {
    let wanted = top.value::<Wanted>("tls").map_or(Wanted::Off, |(wanted, _span)| wanted);
    let [certificate, key] = ["tls_certificate", "tls_key"].map(|key| top.value::<PathBuf>(key));
    let (certificate, key) = match (wanted, certificate, key) {
        (_, Some(certificate), Some(key)) => (certificate, key),
        (Wanted::Off, None, None) => return,
        _ => {
            let text = "encryption takes `tls = \"allow\"` or `\"require\"`, `tls_certificate` and \
                        `tls_key`: all three";
            let named = ["tls", "tls_certificate", "tls_key"].into_iter().find(|key| top.has(key));
            return top.problem(top.value_span(named.unwrap_or("tls")), text);
        }
    };
    // Files that nobody uses for now are right or wrong all the same.
    match Identity::load(&secrets.beside(&certificate.0), &secrets.beside(&key.0)) {
        Ok(identity) => {
            config.tls = match wanted {
                Wanted::Off => Tls::Off,
                Wanted::Allow => Tls::Allow(identity),
                Wanted::Require => Tls::Require(identity),
            };
        }
        Err(Unusable::Certificate(what)) => {
            top.problem(certificate.1, format!("`tls_certificate`: {what}"));
        }
        Err(Unusable::Key(what)) => top.problem(key.1, format!("`tls_key`: {what}")),
    }
}
