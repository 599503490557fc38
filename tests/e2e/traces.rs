//! Traces: off by default; with the standard variables, spans of real passes reach a collector.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message;
use serde_json::json;
use world::{World, WorldOptions, eventually_ok};

/// A collector that takes OTLP over HTTP, and keeps what it got.
#[derive(Clone, Default)]
struct Collector {
    requests: Arc<Mutex<Vec<(String, ExportTraceServiceRequest)>>>,
}

impl Collector {
    fn listen(&self) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = format!("http://{}", listener.local_addr()?);
        let collector = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let collector = collector.clone();
                std::thread::spawn(move || while let Ok(true) = collector.answer(&stream) {});
            }
        });
        Ok(address)
    }

    /// One request of a connection; false at its end.
    fn answer(&self, stream: &std::net::TcpStream) -> Result<bool> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(false);
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
            if line == "\r\n" {
                break;
            }
            head += &line;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let request = ExportTraceServiceRequest::decode(body.as_slice())?;
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push((head, request));
        (&*stream).write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
        )?;
        Ok(true)
    }

    fn requests(&self) -> Vec<(String, ExportTraceServiceRequest)> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.requests();
        let resources = requests.into_iter().flat_map(|(_, request)| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

/// An attribute as text; empty where there is none.
fn attribute(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.as_ref()).and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_pass_is_a_span_with_its_calls_inside_and_its_id_in_the_log() -> Result<()> {
    let collector = Collector::default();
    let world = World::new(WorldOptions { without_controller: true, ..WorldOptions::default() })?;
    let command = world.controller_command().args(["--resync-interval=1s"]);
    let command = command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.listen()?)
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test");
    let controller = command.start(world.scratch().path(), "traced")?;
    let s = world.scenario("traced")?;
    s.sandbox().profile("traced-app")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "traced-app"}))?;
    let ready = s.wait_until_ready("web")?;
    // The last spans are sent before the process ends.
    assert_eq!(controller.terminate()?, 0);

    let (head, request) =
        collector.requests().into_iter().next().with_context(|| controller.process().log_tail(20))?;
    ensure!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
    ensure!(head.to_lowercase().contains("content-type: application/x-protobuf"), "{head}");
    ensure!(head.to_lowercase().contains("x-tenant: a"), "{head}");
    let resource = request.resource_spans.first().and_then(|spans| spans.resource.clone());
    let resource = resource.context("no resource")?.attributes;
    assert_eq!(attribute(&resource, "service.name"), "instance-role-controller");
    assert_eq!(attribute(&resource, "deployment.environment.name"), "test");

    let spans = collector.spans();
    let wrote =
        |span: &&Span| span.name == "reconcile" && !attribute(&span.attributes, "request_id").is_empty();
    let mut writing = spans.iter().filter(wrote);
    let pass = writing.next().context("no pass that wrote")?;
    ensure!(writing.next().is_none(), "one write, one such pass");
    let told = |name: &str| attribute(&pass.attributes, name);
    assert_eq!(told("binding"), format!("{}/web", s.namespace()));
    assert_eq!(
        (told("instance"), told("region"), told("generation")),
        (i.clone(), "eu-west-1".into(), "1".into())
    );
    assert_eq!(told("operation"), "AssociateIamInstanceProfile");
    assert_eq!(
        json!(told("association")),
        ready["status"]["changes"]
            .as_array()
            .map_or(json!(null), |_| ready["status"]["observed"]["associationId"].clone())
    );
    assert_eq!(json!(told("request_id")), ready["status"]["changes"][0]["requestId"]);
    assert_eq!((told("step"), told("reason")), ("Wait".into(), "Associating".into()));
    let end = spans.iter().filter(|span| attribute(&span.attributes, "reason") == "Associated").count();
    ensure!(end >= 1, "a pass that found it as declared");

    let call = spans.iter().find(|span| span.name == "AssociateIamInstanceProfile").context("no call")?;
    assert_eq!((&call.trace_id, &call.parent_span_id), (&pass.trace_id, &pass.span_id));
    assert_eq!(call.kind, SpanKind::Client as i32);
    assert_eq!(attribute(&call.attributes, "code"), "OK");
    assert!(
        pass.start_time_unix_nano <= call.start_time_unix_nano
            && call.end_time_unix_nano <= pass.end_time_unix_nano
    );

    let log = controller.log()?;
    let line =
        log.iter().find(|line| line["message"] == "instance profile changed").context("no such line")?;
    assert_eq!(line["span"]["trace_id"], hex(&pass.trace_id));
    Ok(())
}

#[test]
fn a_collector_that_is_away_changes_nothing_else() -> Result<()> {
    let world = World::new(WorldOptions { without_controller: true, ..WorldOptions::default() })?;
    let command = world.controller_command().env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    let controller = command.start(world.scratch().path(), "lonely")?;
    let s = world.scenario("lonely")?;
    s.sandbox().profile("lonely-app")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "lonely-app"}))?;
    s.wait_until_ready("web")?;
    assert_eq!(controller.terminate()?, 0);
    Ok(())
}

#[test]
fn a_protocol_that_is_not_built_in_is_refused_in_words() -> Result<()> {
    let world = World::new(WorldOptions { without_controller: true, ..WorldOptions::default() })?;
    let command = world.controller_command();
    let command = command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let controller = command.spawn(world.scratch().path(), "grpc")?;
    let status = eventually_ok("it ends", Duration::from_secs(20), || {
        controller.process().ended()?.context("it runs")
    })?;
    assert_eq!(status.code(), Some(1));
    let printed = controller.process().printed();
    assert!(printed.contains("OTEL_EXPORTER_OTLP_PROTOCOL: `grpc` is not built in"), "{printed}");
    Ok(())
}
