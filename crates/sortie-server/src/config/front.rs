//! Reading what stands between a client and a session: proof and encryption.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use super::section::Section;
use super::server::Secrets;
use super::tls::{Identity, Unusable};
use super::users::Users;
use super::value::{Bytes, Demand, Wanted};
use super::{Auth, Config, Tls};
use crate::budget::BUFFERED_LEAST;

/// How clients prove who they are: nobody is let in without proof by mistake.
pub(super) fn auth(top: &Section<'_, '_>, config: &mut Config, secrets: &Secrets) {
    let demand = top.value::<Demand>("auth").map(|(demand, _span)| demand);
    let users = top.value::<PathBuf>("users");
    match (demand, users) {
        (Some(Demand::Scram), Some((file, span))) => match Users::load(&secrets.beside(&file)) {
            Ok(users) => config.auth = Auth::Scram(Arc::new(users)),
            Err(what) => top.problem(span, format!("`users`: {what}")),
        },
        // Others may be found by an `auth_query`; that is looked at when the clusters are known.
        (Some(Demand::Scram), None) => config.auth = Auth::Scram(Arc::default()),
        (Some(Demand::Trust), Some((_file, span))) => {
            let text = "with `auth = \"trust\"` nobody is asked for a password: take `users` away, \
                        or write `auth = \"scram\"`";
            top.problem(span, text);
        }
        (Some(Demand::Cert), Some((_file, span))) => {
            let text = "with `auth = \"cert\"` nobody is asked for a password: take `users` away, \
                        or write `auth = \"scram\"`, which asks for a certificate besides";
            top.problem(span, text);
        }
        (Some(Demand::Cert), None) => config.auth = Auth::Certificate,
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

/// What may wait in memory for slow clients.
pub(super) fn buffered_max(top: &Section<'_, '_>, config: &mut Config) {
    let Some((Bytes(size), span)) = top.value("buffered_max") else { return };
    if let Some(size) = NonZeroUsize::new(size).filter(|size| *size >= BUFFERED_LEAST) {
        config.buffered_max = size;
    } else {
        let least = BUFFERED_LEAST.get() >> 20;
        top.problem(span, format!("`buffered_max` must be at least \"{least}MiB\""));
    }
}

/// Somebody must be able to come, and what nobody asks must not be said.
pub(super) fn known(top: &Section<'_, '_>, config: &Config) {
    let mut queries = config.clusters.iter().filter(|it| it.auth_query.is_some());
    match &config.auth {
        Auth::Trust | Auth::Certificate => {
            if let Some(cluster) = queries.next() {
                top.whole_problem(format!(
                    "cluster `{}` has an `auth_query`, and with `auth = \"{}\"` nobody is asked \
                     for a password: take it away, or write `auth = \"scram\"`",
                    cluster.name,
                    config.auth.name(),
                ));
            }
        }
        Auth::Scram(_) => {
            if !top.has("users") && queries.next().is_none() {
                let text = "`auth = \"scram\"` needs `users = \"FILE\"`, a line for each user, \
                            which `sortie user NAME` makes, or a cluster's `auth_query`";
                top.problem(top.value_span("auth"), text);
            }
        }
    }
}

/// Whether clients' connections are encrypted, and with what.
pub(super) fn tls(top: &Section<'_, '_>, config: &mut Config, secrets: &Secrets) {
    let wanted = top.value::<Wanted>("tls").map_or(Wanted::Off, |(wanted, _span)| wanted);
    let [certificate, key] = ["tls_certificate", "tls_key"].map(|key| top.value::<PathBuf>(key));
    let authority = top.value::<PathBuf>("tls_client_ca");
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
    let vouching = authority.as_ref().map(|(file, _span)| secrets.beside(file));
    let files = [&certificate.0, &key.0].map(|file| secrets.beside(file));
    match Identity::load(&files[0], &files[1], vouching.as_deref()) {
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
        Err(Unusable::Authority(what)) => {
            let span = authority.map_or(top.span(), |(_file, span)| span);
            top.problem(span, format!("`tls_client_ca`: {what}"));
        }
    }
}
