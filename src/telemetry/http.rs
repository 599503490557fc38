//! The two small HTTP servers: `/metrics` for Prometheus; `/livez`, `/healthz` and `/readyz` for the kubelet.

use std::future::{Future, IntoFuture};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Metrics, Readiness};

/// How long a request under way may hold up the end of the process.
const LAST_REPLIES: Duration = Duration::from_secs(2);

/// Why a server could not listen. Each text names the flag and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be read.
    #[error(
        "--{flag}: `{value}` is not an address; expected IP:port such as 0.0.0.0:8080, :port, or 0 for off"
    )]
    Address {
        /// The flag, without its dashes.
        flag: &'static str,
        /// What was given.
        value: String,
    },
    /// Another process listens there.
    #[error("--{flag}: {address} is in use by another process; choose another port, or 0 for off")]
    InUse {
        /// The flag, without its dashes.
        flag: &'static str,
        /// The address wanted.
        address: SocketAddr,
    },
    /// The system refused: no such interface, no right to the port.
    #[error("--{flag}: cannot listen on {address}")]
    Refused {
        /// The flag, without its dashes.
        flag: &'static str,
        /// The address wanted.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A server that listens, until its stop future ends.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    task: JoinHandle<io::Result<()>>,
}

impl Serving {
    /// The address bound, with its true port where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the end, for use after the stop future was set off: replies under way are finished, but a
    /// client that is slow to take them holds nothing up for more than two seconds.
    pub async fn stopped(mut self) {
        if tokio::time::timeout(LAST_REPLIES, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// Serves `/metrics` on the address of `--metrics-bind-address`; `None` when that is `0`, off.
pub async fn serve_metrics<F>(
    address: &str,
    metrics: Arc<Metrics>,
    stop: F,
) -> Result<Option<Serving>, ListenError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let router = Router::new().route("/metrics", get(exposition)).with_state(metrics);
    serve("metrics-bind-address", address, router, stop).await
}

/// Serves `/livez`, `/healthz` and `/readyz` on the address of `--health-probe-bind-address`; `None` when
/// that is `0`, off.
pub async fn serve_health<F>(
    address: &str,
    readiness: Arc<Readiness>,
    stop: F,
) -> Result<Option<Serving>, ListenError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let router = Router::new()
        .route("/livez", get(alive))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .with_state(readiness);
    serve("health-probe-bind-address", address, router, stop).await
}

async fn exposition(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// An answer is the proof: a process whose runtime hangs does not come here.
async fn alive() -> &'static str {
    "ok\n"
}

async fn ready(State(readiness): State<Arc<Readiness>>) -> (StatusCode, String) {
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, readiness.report())
}

async fn serve<F>(
    flag: &'static str,
    address: &str,
    router: Router,
    stop: F,
) -> Result<Option<Serving>, ListenError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let Some(wanted) = parse(flag, address)? else {
        tracing::debug!(flag, "endpoint off");
        return Ok(None);
    };
    let listener = TcpListener::bind(wanted).await.map_err(|error| refusal(flag, wanted, error))?;
    let address = listener.local_addr().map_err(|error| refusal(flag, wanted, error))?;
    tracing::info!(flag, %address, "listening");
    let task = tokio::spawn(axum::serve(listener, router).with_graceful_shutdown(stop).into_future());
    Ok(Some(Serving { address, task }))
}

fn parse(flag: &'static str, value: &str) -> Result<Option<SocketAddr>, ListenError> {
    if value == "0" {
        return Ok(None);
    }
    let bad = || ListenError::Address { flag, value: value.to_owned() };
    match value.strip_prefix(':') {
        // As Go controllers write it.
        Some(port) => port.parse().map(|port| Some((Ipv4Addr::UNSPECIFIED, port).into())).map_err(|_| bad()),
        None => value.parse().map(Some).map_err(|_| bad()),
    }
}

fn refusal(flag: &'static str, address: SocketAddr, source: io::Error) -> ListenError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { flag, address },
        _ => ListenError::Refused { flag, address, source },
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use tokio::sync::oneshot;

    use super::*;
    use crate::telemetry::BuildInfo;

    const ANY_PORT: &str = "127.0.0.1:0";

    /// A GET over a real socket: the status and the whole reply.
    async fn get(address: SocketAddr, path: &'static str) -> (u16, String) {
        tokio::task::spawn_blocking(move || {
            let mut socket = TcpStream::connect(address).unwrap();
            write!(socket, "GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").unwrap();
            let mut reply = String::new();
            socket.read_to_string(&mut reply).unwrap();
            (reply.split(' ').nth(1).unwrap().parse().unwrap(), reply)
        })
        .await
        .unwrap()
    }

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::new(BuildInfo { version: "0.0.0", commit: "none" }).unwrap())
    }

    #[tokio::test]
    async fn readyz_switches_with_its_checks_while_livez_stays() {
        let readiness = Readiness::new();
        let aws = readiness.check("aws", "no credentials found");
        let server = serve_health(ANY_PORT, readiness, pending()).await.unwrap().unwrap();

        let (status, reply) = get(server.address(), "/readyz").await;
        assert_eq!(status, 503);
        assert!(reply.contains("[-] aws: no credentials found"), "{reply}");
        assert_eq!(get(server.address(), "/livez").await.0, 200);
        assert_eq!(get(server.address(), "/healthz").await.0, 200);

        aws.met();
        assert_eq!(get(server.address(), "/readyz").await.0, 200);
        aws.unmet("credentials expired");
        assert_eq!(get(server.address(), "/readyz").await.0, 503);
        assert_eq!(get(server.address(), "/livez").await.0, 200);
    }

    #[tokio::test]
    async fn metrics_come_as_the_prometheus_text_format() {
        let server = serve_metrics(ANY_PORT, metrics(), pending()).await.unwrap().unwrap();
        let (status, reply) = get(server.address(), "/metrics").await;
        assert_eq!(status, 200);
        assert!(reply.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{reply}");
        assert!(reply.contains("instancerole_build_info{"), "{reply}");
        assert_eq!(get(server.address(), "/else").await.0, 404);
    }

    #[tokio::test]
    async fn zero_is_off() {
        assert!(serve_metrics("0", metrics(), pending()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_stopped_server_listens_no_more_even_if_a_client_lingers() {
        let (stop, stopping) = oneshot::channel::<()>();
        let until = async move { _ = stopping.await };
        let server = serve_health(ANY_PORT, Readiness::new(), until).await.unwrap().unwrap();
        let address = server.address();
        let mut lingering = TcpStream::connect(address).unwrap();
        lingering.write_all(b"GET /readyz HTTP/1.1\r\nHost: he").unwrap();

        stop.send(()).unwrap();
        tokio::time::timeout(LAST_REPLIES * 2, server.stopped()).await.unwrap();
        assert!(TcpStream::connect(address).is_err());
    }

    #[tokio::test]
    async fn an_address_in_use_names_the_flag() {
        let first = serve_metrics(ANY_PORT, metrics(), pending()).await.unwrap().unwrap();
        let taken = first.address().to_string();
        let told = serve_health(&taken, Readiness::new(), pending()).await.unwrap_err().to_string();
        assert!(told.starts_with(&format!("--health-probe-bind-address: {taken} is in use")), "{told}");
    }

    #[test]
    fn an_address_is_read_or_refused_by_name() {
        let read = |value| parse("metrics-bind-address", value);
        assert_eq!(read(":8080").unwrap(), read("0.0.0.0:8080").unwrap());
        assert_eq!(read("[::]:8080").unwrap().unwrap().port(), 8080);
        for bad in ["", "8080", ":", ":99999", "host:8080", "1.2.3.4"] {
            let told = read(bad).unwrap_err().to_string();
            assert!(
                told.starts_with(&format!("--metrics-bind-address: `{bad}` is not an address")),
                "{told}"
            );
        }
    }
}
