//! How `phasegate serve` tells of itself: its log, the port for metrics, and OTLP, as the arguments and the
//! standard variables of OpenTelemetry (`OTEL_*`) say.

use crate::failure::Failure;
use clap::{Args, ValueEnum};
use phasegate_server::{
    config::{self, Exposure},
    telemetry::otlp::{self, Signals, Traces},
};
use std::{
    io::{self, IsTerminal as _},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::Directive, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// How the server tells of itself.
#[derive(Args, Debug)]
pub(crate) struct Telemetry {
    /// Where to show /metrics for Prometheus, and /livez and /readyz for probes; port 0 takes a free one.
    /// Nobody is asked who they are there
    #[arg(long, env = "PHASEGATE_METRICS_LISTEN", value_name = "ADDR")]
    metrics_listen: Option<SocketAddr>,
    /// Show metrics on an address that others can reach
    #[arg(long)]
    metrics_allow_network: bool,
    /// Send spans and metrics to a collector over OTLP with gRPC, for example http://127.0.0.1:4317. Other
    /// variables OTEL_* say how: see docs/observability.md
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", hide_env_values = true)]
    otlp_endpoint: Option<String>,
}

/// How the server logs, to stderr.
#[derive(Args, Debug)]
pub(crate) struct Log {
    /// What is logged, for example `info` or `phasegate_server=debug`
    #[arg(long = "log", env = "PHASEGATE_LOG", default_value = "info", value_name = "FILTER")]
    filter: String,
    /// How a line looks
    #[arg(long, env = "PHASEGATE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people, one line
    Text,
    /// For people, each field on a line of its own
    Pretty,
    /// One JSON object a line
    Json,
}

impl Telemetry {
    /// What the server is to be configured with.
    pub(crate) fn config(&self) -> Result<config::Telemetry, String> {
        let exposure =
            if self.metrics_allow_network { Exposure::Insecure } else { Exposure::Guarded };
        // An empty variable is as if it were not set, by the specification of OpenTelemetry.
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = self.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
        let otlp = match endpoint {
            Some(endpoint) => settings(endpoint, variable)?,
            None => None,
        };
        Ok(config::Telemetry { listen: self.metrics_listen, exposure, otlp })
    }
}

impl Log {
    /// What is logged, or why that is no filter.
    pub(crate) fn filter(&self) -> Result<EnvFilter, String> {
        EnvFilter::try_new(&self.filter).map_err(|error| format!("log {}: {error}", self.filter))
    }

    /// From here on this process logs to stderr, and exports spans if that is wanted. Must be called inside
    /// the runtime.
    pub(crate) fn start(&self, otlp: Option<&otlp::Settings>) -> Result<Option<Traces>, Failure> {
        // Spans are for who collects them. A line has what it needs by itself.
        let no_spans: Directive =
            format!("{}=off", otlp::SPANS).parse().expect("the name of a target is a directive");
        let filter = self.filter().map_err(Failure::Usage)?.add_directive(no_spans);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            // Colours are for people; a file or a journal gets plain text.
            .with_ansi(io::stderr().is_terminal());
        let lines = match self.log_format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Pretty => lines.pretty().boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        let wanted = otlp.filter(|settings| settings.signals != Signals::Metrics);
        let (traces, spans) = match wanted.map(Traces::start).transpose() {
            Ok(started) => started.unzip(),
            Err(error) => return Err(Failure::Server(Box::new(error.into()))),
        };
        tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).init();
        Ok(traces)
    }
}

/// What the standard variables say beside the endpoint; none if nothing is to be exported.
fn settings(
    endpoint: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<otlp::Settings>, String> {
    let is = |name: &str, wanted: &str| {
        variable(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted))
    };
    if is("OTEL_SDK_DISABLED", "true") {
        return Ok(None);
    }
    let signals = match (is("OTEL_TRACES_EXPORTER", "none"), is("OTEL_METRICS_EXPORTER", "none")) {
        (false, false) => Signals::Both,
        (false, true) => Signals::Traces,
        (true, false) => Signals::Metrics,
        (true, true) => return Ok(None),
    };
    if let Some(protocol) = variable("OTEL_EXPORTER_OTLP_PROTOCOL").filter(|it| it != "grpc") {
        return Err(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}: OTLP is spoken over grpc only"
        ));
    }
    let endpoint: Uri = endpoint.parse().map_err(|_| wrong_endpoint())?;
    let is_complete = matches!(endpoint.scheme_str(), Some("http" | "https"));
    // What stands before an @ would be shown with the address.
    let has_user = endpoint.authority().is_none_or(|authority| authority.as_str().contains('@'));
    if !is_complete || has_user {
        return Err(wrong_endpoint());
    }
    let millis = |name: &str, default: u64| match variable(name) {
        None => Ok(Duration::from_millis(default)),
        Some(value) => match value.parse() {
            Ok(millis) if millis > 0 => Ok(Duration::from_millis(millis)),
            _ => Err(format!("{name} must be a number of milliseconds above 0")),
        },
    };
    Ok(Some(otlp::Settings {
        endpoint,
        headers: headers(&variable("OTEL_EXPORTER_OTLP_HEADERS").unwrap_or_default())?,
        timeout: millis("OTEL_EXPORTER_OTLP_TIMEOUT", 10_000)?,
        interval: millis("OTEL_METRIC_EXPORT_INTERVAL", 60_000)?,
        certificate: variable("OTEL_EXPORTER_OTLP_CERTIFICATE").map(PathBuf::from),
        resource: otlp::resource(),
        signals,
    }))
}

fn wrong_endpoint() -> String {
    "--otlp-endpoint must be the address of a collector, such as http://127.0.0.1:4317, without a user"
        .to_owned()
}

/// Reads `key=value,key=value`, values percent-encoded. They are secret: not even what is wrong with one
/// is said.
fn headers(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (place, pair) in text.split(',').map(str::trim).enumerate().filter(|(_, p)| !p.is_empty()) {
        let wrong = || format!("OTEL_EXPORTER_OTLP_HEADERS: part {} is no key=value", place + 1);
        let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
        let key = HeaderName::try_from(key.trim()).map_err(|_| wrong())?;
        let value = decoded(value.trim()).ok_or_else(wrong)?;
        let mut value = HeaderValue::from_bytes(&value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(rest.as_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(endpoint: &str, variables: &[(&str, &str)]) -> Result<Option<otlp::Settings>, String> {
        settings(endpoint, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_standard_variables_say_how_otlp_is_spoken() {
        let settings = read(
            "https://collector.example:4317",
            &[
                ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, other=c"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
                ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem"),
                ("OTEL_TRACES_EXPORTER", "none"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ],
        );
        let settings = settings.unwrap().unwrap();
        assert_eq!(settings.headers["api-key"], "a b");
        assert_eq!(settings.headers["other"], "c");
        assert_eq!(settings.timeout, Duration::from_millis(250));
        assert_eq!(settings.interval, Duration::from_secs(1));
        assert_eq!(settings.certificate, Some(PathBuf::from("ca.pem")));
        assert_eq!(settings.signals, Signals::Metrics);
        let shown = format!("{settings:?}");
        assert!(shown.contains("Sensitive") && !shown.contains("a b"), "{shown}");
    }

    #[test]
    fn nothing_is_exported_if_the_variables_say_so() {
        let none = ("OTEL_METRICS_EXPORTER", "none");
        let endpoint = "http://127.0.0.1:4317";
        assert!(read(endpoint, &[("OTEL_SDK_DISABLED", "true")]).unwrap().is_none());
        assert!(read(endpoint, &[("OTEL_TRACES_EXPORTER", "none"), none]).unwrap().is_none());
        let traces = read(endpoint, &[none]).unwrap().unwrap();
        assert_eq!(traces.signals, Signals::Traces);
    }

    #[test]
    fn what_cannot_be_done_is_refused_without_its_secrets() {
        let good = "http://127.0.0.1:4317";
        for (endpoint, variables, says) in [
            ("collector", &[][..], "--otlp-endpoint"),
            ("ftp://collector", &[], "--otlp-endpoint"),
            ("http://secret@collector", &[], "--otlp-endpoint"),
            (good, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")], "grpc only"),
            (good, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "0")], "OTEL_EXPORTER_OTLP_TIMEOUT"),
            (good, &[("OTEL_METRIC_EXPORT_INTERVAL", "1s")], "OTEL_METRIC_EXPORT_INTERVAL"),
            (good, &[("OTEL_EXPORTER_OTLP_HEADERS", "a=b,secret")], "part 2"),
            (good, &[("OTEL_EXPORTER_OTLP_HEADERS", "a=secret%2")], "part 1"),
        ] {
            let problem = read(endpoint, variables).unwrap_err();
            assert!(problem.contains(says) && !problem.contains("secret"), "{problem}");
        }
    }
}
