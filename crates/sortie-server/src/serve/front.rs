//! What is taken before anything is made: the two ports, and the two ways to be told to stop.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Error;
use crate::said::Loopback;

/// Ports that are listened on and signals that are waited for.
pub(crate) struct Front {
    pub(super) signals: Signals,
    pub(super) listener: TcpListener,
    pub(super) admin_listener: TcpListener,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Front {
    /// Takes the ports.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] says which option helps.
    pub(crate) async fn bind(listen: Loopback, admin: Loopback) -> Result<Self, Error> {
        let signals = Signals::new()?;
        let listener = bind(listen.0, "--listen").await?;
        let admin_listener = bind(admin.0, "--admin").await?;
        let (listen, admin) = (local(&listener, "--listen")?, local(&admin_listener, "--admin")?);
        Ok(Self { signals, listener, admin_listener, listen, admin })
    }

    /// Waits until it is told to stop. Dropping it loses no signal.
    pub(crate) async fn told_to_stop(&mut self) {
        self.signals.next().await;
    }
}

/// The two ways to be told to stop.
pub(super) struct Signals {
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

    pub(super) async fn next(&mut self) {
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
