//! Log lines: one JSON object a line for machines, or text for people. Always on stderr.
//!
//! A JSON line carries `timestamp` (RFC 3339, UTC, microseconds), `level`, `target`, `message`, the event's
//! fields beside them, and the fields of the span it happened in under `span`.

use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt};

use super::traces::Traces;

/// The form of a log line: the value of `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people; in colour on a terminal.
    Text,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(LogError::Format(other.to_owned())),
        }
    }
}

/// Why logging could not be set up. Each text names the flag.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `--log-format` is neither of the two words.
    #[error("--log-format: `{0}` is neither `json` nor `text`")]
    Format(String),
    /// `--log-level` is not a filter.
    #[error(
        "--log-level: `{value}`: {problem}; expected a level (error, warn, info, debug, trace, off) or a list \
         such as `info,instance_role_controller::ec2=debug`"
    )]
    Level {
        /// What was given.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A subscriber stands already; this is done once in a process.
    #[error("logging was set up before: {0}")]
    Again(String),
}

/// Sets up logging for the whole process, and traces beside it. `level` is a filter in the syntax of `RUST_LOG`; `quiet` are
/// targets that tell only errors, unless it names them.
pub fn init(format: LogFormat, level: &str, quiet: &[&str], traces: Option<&Traces>) -> Result<(), LogError> {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    subscriber(format, filter(level, quiet)?, colour, io::stderr)
        .with(traces.map(Traces::layer))
        .try_init()
        .map_err(|error| LogError::Again(error.to_string()))
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    colour: bool,
    writer: W,
) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Json => {
            Box::new(lines.json().flatten_event(true).with_current_span(true).with_span_list(false))
        }
        LogFormat::Text => Box::new(lines.with_ansi(colour)),
    };
    Registry::default().with(layer.with_filter(filter))
}

fn filter(level: &str, quiet: &[&str]) -> Result<EnvFilter, LogError> {
    let bad = |problem: String| LogError::Level { value: level.to_owned(), problem };
    if level.trim().is_empty() {
        return Err(bad("it is empty".to_owned()));
    }
    if let Some(word) = bare_word(level) {
        return Err(bad(format!("`{word}` is not a level")));
    }
    // kube's own span says once more which object it is; who asks for it by name gets it.
    let others = quiet.iter().map(|target| (*target, "error"));
    let mut directives = level.to_owned();
    for (target, at) in others.chain([("kube_runtime", "warn")]) {
        if !level.contains(target) {
            directives += &format!(",{target}={at}");
        }
    }
    EnvFilter::builder().parse(directives).map_err(|error| bad(error.to_string()))
}

/// A part that is neither a level nor `target=level`. `RUST_LOG` reads such a word as a target with all its
/// lines, so that a misspelt level (`inof`) would silence the program without a word.
fn bare_word(level: &str) -> Option<&str> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    if level.contains('[') {
        return None; // a span directive: its fields may hold commas; the parser judges it
    }
    let is_level = |part: &str| LEVELS.iter().any(|known| known.eq_ignore_ascii_case(part));
    level.split(',').map(str::trim).find(|part| !part.contains('=') && !is_level(part))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, level: &str, say: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let lines = subscriber(format, filter(level, &[]).unwrap(), false, move || writer.clone());
        tracing::subscriber::with_default(lines, say);
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_json_line_is_one_object_with_its_fields_beside_the_message() {
        let text = written(LogFormat::Json, "info", || {
            let _span = tracing::info_span!("reconcile", binding = "team-a/web-1").entered();
            tracing::info!(operation = "AssociateIamInstanceProfile", "wrote to EC2\nonce");
            tracing::debug!("not wanted at info");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "wrote to EC2\nonce");
        assert_eq!(line["operation"], "AssociateIamInstanceProfile");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["span"]["binding"], "team-a/web-1");
        let stamp = line["timestamp"].as_str().unwrap();
        assert!(stamp.parse::<jiff::Timestamp>().is_ok() && stamp.ends_with('Z'), "RFC 3339 in UTC: {stamp}");
    }

    #[test]
    fn text_is_readable_and_plain_off_a_terminal() {
        let text = written(LogFormat::Text, "info", || tracing::warn!(instance = "i-1", "a person may look"));
        assert!(text.contains("WARN") && text.contains("a person may look instance=\"i-1\""), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn the_level_reads_like_rust_log() {
        for good in
            ["info", "DEBUG", "off", "warn,kube=debug", "info,hyper=off", "[reconcile{binding=a}]=trace"]
        {
            assert!(filter(good, &[]).is_ok(), "{good}");
        }
        let text = written(LogFormat::Json, "warn,shouted=debug", || {
            tracing::debug!(target: "shouted", "heard");
            tracing::info!("not heard");
        });
        assert!(text.contains("heard") && !text.contains("not heard"), "{text}");
    }

    #[test]
    fn a_bad_level_is_refused_by_name_and_not_read_as_a_target() {
        for bad in ["", "inof", "info,kub", "kube=lots", "kube=info=debug", "info, hyper=off"] {
            let told = filter(bad, &[]).unwrap_err().to_string();
            assert!(told.starts_with(&format!("--log-level: `{bad}`: ")), "{told}");
            assert!(told.contains("expected a level"), "{told}");
        }
    }

    #[test]
    fn the_format_is_one_of_two_words() {
        for format in [LogFormat::Json, LogFormat::Text] {
            assert_eq!(format.to_string().parse::<LogFormat>().unwrap(), format);
        }
        let told = "yaml".parse::<LogFormat>().unwrap_err().to_string();
        assert_eq!(told, "--log-format: `yaml` is neither `json` nor `text`");
    }
}
