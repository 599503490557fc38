//! One wire to one server: requests in over plain HTTP, out as the server wants them, replies back as they come.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::{Shared, When, request};

type Upstream = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;
type Reply = Response<Either<Incoming, Full<Bytes>>>;

/// Why a request got no reply.
type Broken = Box<dyn std::error::Error + Send + Sync>;

/// How often a held request looks whether it is let go.
const GLANCE: Duration = Duration::from_millis(5);

/// Lays a wire to the server at `to`, trusted by `authority` where it speaks TLS. Where it begins, as a URL.
pub(super) fn lay(to: &str, authority: Option<&Path>, shared: Arc<Shared>) -> Result<String> {
    let upstream = upstream(authority)?;
    let to: Arc<str> = to.trim_end_matches('/').into();
    let runtime = runtime()?;
    let listener = runtime.block_on(TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
    let address = listener.local_addr()?;
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (upstream, to, shared) = (upstream.clone(), Arc::clone(&to), Arc::clone(&shared));
            drop(stream.set_nodelay(true));
            tokio::spawn(async move {
                let pass = service_fn(move |request| {
                    pass(request, upstream.clone(), Arc::clone(&to), Arc::clone(&shared))
                });
                // An error here is a client that went away, or a reply withheld on purpose.
                drop(http1::Builder::new().serve_connection(TokioIo::new(stream), pass).await);
            });
        }
    });
    Ok(format!("http://{address}"))
}

/// All wires of this process share two threads.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        built.map_err(|error| error.to_string())
    });
    made.as_ref().map_err(|error| anyhow::anyhow!("no runtime for the tap: {error}"))
}

fn upstream(authority: Option<&Path>) -> Result<Upstream> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = authority {
        roots.add(CertificateDer::from_pem_file(file).context("the authority of a kubeconfig")?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let tls = tls.with_root_certificates(roots).with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build(connector))
}

async fn pass(
    request: Request<Incoming>,
    upstream: Upstream,
    to: Arc<str>,
    shared: Arc<Shared>,
) -> Result<Reply, Broken> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let name = request::name(&head, &body);
    let point = shared.count(&name);
    if shared.holds(&point, When::Before) {
        return withheld(&shared).await;
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = format!("{to}{path}").parse::<Uri>()?;
    head.headers.remove(HOST);
    // A server goes on with what it was asked, also when whoever asked is gone.
    let asked = tokio::spawn(upstream.request(Request::from_parts(head, Full::new(body))));
    let reply = asked.await??;
    if shared.holds(&point, When::After) {
        return withheld(&shared).await;
    }
    match shared.rewriting() {
        Some(rewrite) if is_of_aws(&name) => {
            let (mut head, body) = reply.into_parts();
            let body = rewrite(&name, body.collect().await?.to_bytes());
            head.headers.remove(CONTENT_LENGTH);
            head.headers.remove(TRANSFER_ENCODING);
            Ok(Response::from_parts(head, Either::Right(Full::new(body))))
        }
        _ => Ok(reply.map(Either::Left)),
    }
}

fn is_of_aws(request: &str) -> bool {
    ["ec2 ", "iam ", "sts "].iter().any(|service| request.starts_with(service))
}

/// Waits until the request is let go; then there is no reply.
async fn withheld(shared: &Shared) -> Result<Reply, Broken> {
    while shared.is_holding() {
        tokio::time::sleep(GLANCE).await;
    }
    Err("withheld on purpose".into())
}
