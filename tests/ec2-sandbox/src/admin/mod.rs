//! The admin API: JSON under `/_sandbox/`, without authentication, for tests and demos.
//!
//! `worlds` makes what there is, `control` makes it misbehave, `look` shows it as it is. A request that says
//! something the sandbox does not know is refused with status 400 and `{"error": …}`.

mod control;
mod look;
mod worlds;

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::server::{Answer, Server};

/// The query of a request, as far as it is one value per name.
type Query = HashMap<String, String>;

/// Answers a request.
pub(crate) fn answer(server: &Server, method: &str, path: &str, query: &str, body: &[u8]) -> Answer {
    let query: Query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let path = path.trim_start_matches("/_sandbox").trim_matches('/');
    let result = match (method, path) {
        ("GET", "health") => Ok(json!({"status": "ok"})),
        ("GET", "journal") => look::journal(server, &query),
        ("DELETE", "journal") => look::clear_journal(server),
        ("GET", "state") => look::state(server, &query),
        ("GET", "timeline") => look::timeline(server, &query),
        ("POST", "instances") => worlds::instances(server, body),
        ("PATCH", "instances") => worlds::change_instances(server, body),
        ("POST", "profiles") => worlds::profiles(server, body),
        ("POST", "roles") => worlds::roles(server, body),
        ("POST", "stick") => worlds::stick(server, body),
        ("GET", "settings") => control::settings(server),
        ("PATCH", "settings") => control::change_settings(server, body),
        ("GET", "faults") => control::faults(server),
        ("POST", "faults") => control::add_fault(server, body),
        ("DELETE", "faults") => control::remove_faults(server, &query),
        ("POST", "policies") => control::attach_policy(server, body),
        ("DELETE", "policies") => control::detach_policies(server, &query),
        ("POST", "credentials") => control::credentials(server, body),
        ("POST", "clock") => control::clock(server, body),
        ("DELETE", "throttle") => control::fill_buckets(server),
        ("POST", "reset") => control::reset(server),
        _ => return render(404, &json!({"error": format!("there is no {method} /_sandbox/{path}")})),
    };
    match result {
        Ok(value) => render(200, &value),
        Err(error) => render(400, &json!({"error": error})),
    }
}

fn render(status: u16, value: &Value) -> Answer {
    Answer { status, content_type: "application/json", request_id: String::new(), body: value.to_string() }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// Refuses query parameters that nobody asked for.
fn only(query: &Query, known: &[&str]) -> Result<(), String> {
    match query.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("unknown query parameter {name}")),
        None => Ok(()),
    }
}
