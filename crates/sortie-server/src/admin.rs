//! The admin address: metrics for machines, health for whoever starts and stops the server.
//!
//! # Invariants
//!
//! 1. Connections, the time to send a request and the size of one are bounded: a stuck scraper
//!    costs one of `CONNECTIONS_MAX` places for `REQUEST_MAX`.
//! 2. Ready means that every shard has a replica that answers now, and that no drain has begun.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use sortie::first_ok;
use sortie_sqlite::{Error, Replica};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::Mode;
use crate::metrics::{self, Snapshot};
use crate::serve::Reload;

/// Connections at a time; the next one waits in the listener's queue.
const CONNECTIONS_MAX: usize = 64;

/// From the opening of a connection, or from the last answer, to the end of a request's head.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Bytes of a request's head, the least that hyper admits.
const HEAD_MAX: usize = 8 << 10;

/// How long a shard may take to answer a probe.
pub(crate) const PROBE_MAX: Duration = Duration::from_secs(1);

/// A pause before the next accept when the system is out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const PATHS: &str = "/metrics  counters and gauges, for Prometheus\n\
                     /healthz  whether the process answers\n\
                     /readyz   whether every shard answers and no drain has begun\n\
                     /mode/CLUSTER/MODE   by POST: share, observe, pipe, or as configured\n\
                     /reload   by POST: reads the configuration again, as SIGHUP does\n";

/// What the admin address tells about.
pub(crate) struct Admin {
    /// Reads all counters.
    pub(crate) scrape: Box<dyn Fn() -> Snapshot + Send + Sync>,
    /// Asks whether every shard has a replica that answers now, and why not.
    pub(crate) ready: Box<dyn Fn() -> Readiness + Send + Sync>,
    /// Sets the mode of a cluster while running: `None` is as configured. `Err` names those that
    /// there are.
    pub(crate) set_mode: SetMode,
    /// Reads the configuration again, where there is one.
    pub(crate) reload: Option<Reload>,
    /// Whether a drain has begun.
    pub(crate) draining: watch::Receiver<bool>,
}

/// Sets the mode of the cluster of this name.
pub(crate) type SetMode = Box<dyn Fn(&str, Option<Mode>) -> Result<(), String> + Send + Sync>;

/// Whether all shards answer.
pub(crate) type Readiness = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Answers on `listener` until the future is dropped, and all its connections with it.
pub(crate) async fn serve(listener: TcpListener, admin: Arc<Admin>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        let full = connections.len() >= CONNECTIONS_MAX;
        let accept = async { if full { pending().await } else { listener.accept().await } };
        tokio::select! {
            Some(_ended) = connections.join_next() => {}
            accepted = accept => match accepted {
                Ok((stream, _peer)) => {
                    connections.spawn(connection(stream, Arc::clone(&admin)));
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept an admin connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn connection(stream: TcpStream, admin: Arc<Admin>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let admin = Arc::clone(&admin);
        async move {
            let answer = admin.answer(request.method(), request.uri().path()).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_MAX)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

impl Admin {
    async fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if let Some(wish) = path.strip_prefix("/mode/") {
            return self.mode(method, wish);
        }
        if path == "/reload" {
            return self.reload(method).await;
        }
        let known = ["/metrics", "/healthz", "/readyz"].contains(&path);
        if known && !matches!(*method, Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "ask with GET\n".into());
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/metrics" => {
                let mut answer = text(StatusCode::OK, metrics::page((self.scrape)()));
                let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
                answer.headers_mut().insert(CONTENT_TYPE, kind);
                answer
            }
            "/healthz" => text(StatusCode::OK, "ok\n".into()),
            "/readyz" => match self.ready().await {
                Ok(()) => text(StatusCode::OK, "ready\n".into()),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            },
            _ => text(StatusCode::NOT_FOUND, format!("there is no {path}; there are:\n{PATHS}")),
        }
    }

    /// Asks every shard; the answer of any of its replicas will do.
    async fn ready(&self) -> Result<(), String> {
        if *self.draining.borrow() {
            return Err("draining".into());
        }
        (self.ready)().await
    }

    /// `POST /reload`.
    async fn reload(&self, method: &Method) -> Response<Full<Bytes>> {
        if *method != Method::POST {
            return with_post();
        }
        let Some(reload) = &self.reload else {
            return text(StatusCode::NOT_FOUND, "there is no configuration to read again\n".into());
        };
        match reload.ask().await {
            Ok(done) => text(StatusCode::OK, format!("{done}\n")),
            Err(why) => text(StatusCode::CONFLICT, format!("{why}\n")),
        }
    }

    /// `POST /mode/CLUSTER/MODE`.
    fn mode(&self, method: &Method, wish: &str) -> Response<Full<Bytes>> {
        if *method != Method::POST {
            return with_post();
        }
        let Some((cluster, mode)) = wish.rsplit_once('/') else {
            return text(StatusCode::NOT_FOUND, "write /mode/CLUSTER/MODE\n".into());
        };
        let mode = match mode {
            "share" => Some(Mode::Share),
            "observe" => Some(Mode::Observe),
            "pipe" => Some(Mode::Pipe),
            "configured" => None,
            _ => {
                let modes = "modes are share, observe, pipe, configured\n";
                return text(StatusCode::BAD_REQUEST, modes.into());
            }
        };
        match (self.set_mode)(cluster, mode) {
            Ok(()) => text(StatusCode::OK, "ok\n".into()),
            Err(why) => text(StatusCode::NOT_FOUND, format!("{why}\n")),
        }
    }
}

/// Asks the replicas of an embedded cluster; see [`Admin`].
pub(crate) async fn probe(shards: Vec<Vec<Replica>>) -> Result<(), String> {
    let mut probes = JoinSet::new();
    for (shard, replicas) in shards.into_iter().enumerate() {
        probes.spawn(async move {
            let probe = |replica: Replica| replica.query("SELECT 1".into(), [].into());
            match timeout(PROBE_MAX, first_ok(replicas, probe)).await {
                Ok(Ok(_answered)) => Ok(()),
                Ok(Err(error)) => {
                    // The replica's own words name it; without one the shard is empty.
                    let why = error.error().map_or_else(|| error.to_string(), Error::to_string);
                    Err(format!("shard {shard}: {why}"))
                }
                Err(_late) => Err(format!("shard {shard}: no answer within {PROBE_MAX:?}")),
            }
        });
    }
    while let Some(probe) = probes.join_next().await {
        probe.map_err(|error| error.to_string())??;
    }
    Ok(())
}

fn with_post() -> Response<Full<Bytes>> {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "ask with POST\n".into());
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    answer
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests;
