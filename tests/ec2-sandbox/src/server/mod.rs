//! The sandbox as a server: one port for all services and Regions, and the admin API beside them.
//!
//! `call` takes a signed call through journal, throttle and faults to the state machine; `admin` is what tests
//! use to make worlds and to look behind them.

mod call;
mod clock;
mod connection;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;

use crate::fault::Faults;
use crate::journal::Journal;
use crate::settings::Settings;
use crate::throttle::Throttle;
use crate::world::World;

pub(crate) use clock::Clock;
pub(crate) use connection::Answer;

/// Everything that calls share, behind one lock: no call holds it while it waits.
#[derive(Debug)]
pub(crate) struct Shared {
    pub world: World,
    pub throttle: Throttle,
    pub faults: Faults,
    pub journal: Journal,
}

#[derive(Debug)]
pub(crate) struct Server {
    shared: Mutex<Shared>,
    pub clock: Clock,
}

impl Server {
    pub fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running sandbox; it ends when this is dropped.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Sandbox {
    /// Starts a sandbox on `listen`, such as `127.0.0.1:0` for a free port.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(listen: &str, settings: Settings) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let shared = Shared {
            world: World::new(settings),
            throttle: Throttle::default(),
            faults: Faults::default(),
            journal: Journal::default(),
        };
        let server = Arc::new(Server { shared: Mutex::new(shared), clock: Clock::new() });
        Ok(Self { address, task: tokio::spawn(connection::accept(listener, server)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint URL for any AWS SDK.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_program_can_hold_a_sandbox_of_its_own() {
        let sandbox = Sandbox::start("127.0.0.1:0", Settings::default()).await.unwrap();
        let mut stream = std::net::TcpStream::connect(sandbox.address()).unwrap();
        let request = "GET /_sandbox/health HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200 OK"), "{reply}");
        assert!(reply.ends_with(r#"{"status":"ok"}"#), "{reply}");
        assert_eq!(sandbox.url(), format!("http://{}", sandbox.address()));
    }
}
