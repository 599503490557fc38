//! Traces by OpenTelemetry. Off, unless the standard variables say where spans go; then each pass over a binding is a span, with
//! its calls to AWS inside it.
//!
//! What is sent is OTLP over HTTP. The SDK of OpenTelemetry gathers spans on a thread of its own; what it posts goes over the
//! HTTP stack that talks to Kubernetes, so that there is one TLS in the process.

use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// The name of the service, unless OTEL_SERVICE_NAME says another.
const SERVICE: &str = "instance-role-controller";
/// How long a post may take; the exporter has a limit of its own for all its attempts.
const POST: Duration = Duration::from_secs(10);
/// What is read of an answer.
const ANSWER: usize = 64 * 1024;
/// How long the last spans may take when the process ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// Why traces that were asked for cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A protocol that is not built in.
    #[error("OTEL_EXPORTER_OTLP_PROTOCOL: `{0}` is not built in: it must be http/protobuf, or left out")]
    Protocol(String),
    /// No certificates are trusted on this machine, and the collector's address is https.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT is https, and no trusted certificates are found")]
    Certificates(#[source] std::io::Error),
    /// A variable cannot be read.
    #[error("the variables OTEL_EXPORTER_OTLP_… cannot be used")]
    Exporter(#[from] ExporterBuildError),
}

/// Sends spans while it is kept.
pub struct Traces(SdkTracerProvider);

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traces")
    }
}

impl Traces {
    /// As the environment says; none if it does not say where spans go.
    pub fn from_environment() -> Result<Option<Self>, TraceError> {
        Self::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, TraceError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let is = |name: &str, word: &str| set(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
        let endpoint =
            set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let Some(endpoint) =
            endpoint.filter(|_| !is("OTEL_SDK_DISABLED", "true") && !is("OTEL_TRACES_EXPORTER", "none"))
        else {
            return Ok(None);
        };
        let protocol =
            set("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| set("OTEL_EXPORTER_OTLP_PROTOCOL"));
        if let Some(other) = protocol.filter(|protocol| protocol != "http/protobuf") {
            return Err(TraceError::Protocol(other));
        }
        let exporter = SpanExporter::builder().with_http();
        let exporter = if endpoint.starts_with("https:") {
            let tls = hyper_rustls::HttpsConnectorBuilder::new().with_native_roots();
            let tls = tls.map_err(TraceError::Certificates)?.https_only().enable_http1().build();
            exporter.with_http_client(Post::over(tls)).build()?
        } else {
            exporter.with_http_client(Post::over(HttpConnector::new())).build()?
        };
        let mut resource = Resource::builder();
        let named = set("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="));
        if set("OTEL_SERVICE_NAME").is_none() && !named {
            resource = resource.with_service_name(SERVICE);
        }
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_batch_exporter(exporter)
            .build();
        Ok(Some(Self(provider)))
    }

    /// What hands our spans over, and what is logged inside them.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), Level::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer(SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(ours)
    }

    /// Sends what is left.
    pub async fn end(self) {
        let last = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(FAREWELL)).await;
        if !matches!(last, Ok(Ok(()))) {
            tracing::debug!("the last spans could not be sent");
        }
    }
}

/// Notes the id of the trace in the span, for the log lines in it; nothing if traces are off.
pub fn stamp(span: &Span) {
    let context = span.context();
    let context = context.span().span_context().clone();
    if context.is_valid() {
        span.record("trace_id", tracing::field::display(context.trace_id()));
    }
}

/// Posts from any thread, on the threads of the process.
#[derive(Debug, Clone)]
struct Post<C> {
    client: Client<C, Full<Bytes>>,
    here: Handle,
}

impl<C: Connect + Clone + Send + Sync + 'static> Post<C> {
    fn over(connector: C) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build(connector), here: Handle::current() }
    }
}

#[async_trait::async_trait]
impl<C: Connect + Clone + fmt::Debug + Send + Sync + 'static> HttpClient for Post<C> {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let answer = async move {
            let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, ANSWER).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        // The timer too belongs to the runtime, and who asks is not on it.
        self.here.spawn(async move { tokio::time::timeout(POST, answer).await }).await??
    }
}
