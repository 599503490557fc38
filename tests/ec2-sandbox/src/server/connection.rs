//! Connections, and requests on their way to the API or the admin API.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::Server;
use super::call::Call;
use crate::admin;

/// The largest request.
const LARGEST: usize = 64 * 1024 * 1024;

/// What a client gets.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub request_id: String,
    pub body: String,
}

/// No reply: the connection is closed.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("closed on purpose")
    }
}

impl std::error::Error for Closed {}

pub async fn accept(listener: TcpListener, server: Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, server.clone()))),
            // Out of descriptors, most likely: it passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(stream: TcpStream, server: Arc<Server>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| handle(server.clone(), request));
    // An error here is a client that went away, or a connection closed on purpose.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn handle(server: Arc<Server>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Closed> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST).collect().await else { return Err(Closed) };
    let body = body.to_bytes();
    let answer = if head.uri.path().starts_with("/_sandbox") {
        let query = head.uri.query().unwrap_or_default();
        Some(admin::answer(&server, head.method.as_str(), head.uri.path(), query, &body))
    } else {
        let call = Call::read(&head, &body);
        // A call goes on when its client has given up, as it would at AWS.
        tokio::spawn(call.run(server)).await.unwrap_or_default()
    };
    answer.map(render).ok_or(Closed)
}

fn render(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    if let Ok(id) = HeaderValue::from_str(&answer.request_id) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}
