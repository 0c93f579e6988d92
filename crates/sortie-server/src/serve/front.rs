//! What is taken before anything is made: the two ports, and the two ways to be told to stop; and
//! what is served there then.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::Error;
use crate::admin::{self, Admin};
use crate::cores::{Cores, Socket};
use crate::listener::{self, Room};
use crate::logins::Logins;
use crate::said::Loopback;
use crate::supervisor::Supervisor;

/// Stops that are asked for and not heard yet: the first one ends the accepting, the second one
/// the waiting.
const STOPS_MAX: usize = 2;

/// Ports that are listened on and signals that are waited for.
pub(crate) struct Front {
    signals: Signals,
    /// Those who have it stop otherwise than by a signal.
    stops: (mpsc::Sender<()>, mpsc::Receiver<()>),
    listener: TcpListener,
    admin_listener: TcpListener,
    supervisor: Supervisor,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Front {
    /// Takes the ports.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] says which option helps.
    pub(crate) async fn bind(listen: SocketAddr, admin: Loopback) -> Result<Self, Error> {
        let signals = Signals::new()?;
        let listener = bind(listen, "--listen").await?;
        let admin_listener = bind(admin.0, "--admin").await?;
        let (listen, admin) = (local(&listener, "--listen")?, local(&admin_listener, "--admin")?);
        let stops = mpsc::channel(STOPS_MAX);
        let supervisor = Supervisor::from_environment();
        Ok(Self { signals, stops, listener, admin_listener, supervisor, listen, admin })
    }

    /// Serves clients, and the admin address, until it is told to stop and clients have ended. What
    /// is `beside` goes on as long.
    pub(super) async fn serve<F, Fut>(
        self,
        (room, logins): (Room, Logins),
        (cores, drain): (&Cores, &watch::Sender<bool>),
        admin: Admin,
        beside: impl Future<Output = Infallible>,
        session: F,
    ) where
        F: Fn(Socket, SocketAddr) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let (mut signals, (_sender, mut stops)) = (self.signals, self.stops);
        let supervisor = self.supervisor;
        let connections = listener::run(
            self.listener,
            (room, logins),
            cores,
            drain,
            async || {
                tokio::select! {
                    () = signals.next() => {}
                    _told = stops.recv() => {}
                }
                supervisor.stopping().await;
            },
            session,
        );
        let cut = tokio::select! {
            cut = connections => cut,
            never = admin::serve(self.admin_listener, Arc::new(admin)) => match never {},
            never = beside => match never {},
            never = supervisor.keep(cores) => match never {},
        };
        tracing::info!(event = "stopped", cut, "stopped");
    }

    /// What has it stop, as a signal does.
    pub(super) fn stopper(&self) -> mpsc::Sender<()> {
        self.stops.0.clone()
    }

    /// Whoever has to know when clients are answered.
    pub(super) fn supervisor(&self) -> Supervisor {
        self.supervisor.clone()
    }

    /// Waits until it is told to stop. Dropping it loses no signal.
    pub(crate) async fn told_to_stop(&mut self) {
        self.signals.next().await;
    }
}

/// The two ways to be told to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let listen =
            |kind| signal(kind).map_err(|source| Error::System { what: "signal handlers", source });
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _got = self.interrupt.recv() => {}
            _got = self.terminate.recv() => {}
        }
    }
}

async fn bind(address: SocketAddr, option: &'static str) -> Result<TcpListener, Error> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| Error::Bind { address, option, source })
}

fn local(listener: &TcpListener, what: &'static str) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|source| Error::System { what, source })
}
