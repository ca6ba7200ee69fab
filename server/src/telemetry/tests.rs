use super::{Metrics, cells::Kind, table, text};
use std::{collections::BTreeSet, time::Duration};

fn is_name(text: &str) -> bool {
    text.split(['.', '_']).all(|part| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

#[test]
fn the_document_has_the_table_of_metrics() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/observability.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- metrics -->\n", "<!-- /metrics -->");
    let (before, rest) = document.split_once(begin).unwrap();
    let (written, after) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        let renewed = format!("{before}{begin}{}{end}{after}", table::document());
        return std::fs::write(path, renewed).unwrap();
    }
    assert_eq!(written, table::document(), "UPDATE=1 writes it anew");
}

#[test]
fn names_are_those_of_opentelemetry_or_begin_with_ours() {
    let families = Metrics::default().families();
    let mut names = BTreeSet::new();
    for family in &families {
        assert!(is_name(family.name), "{}", family.name);
        assert!(names.insert(table::prometheus_name(family)), "{} comes twice", family.name);
        let conventional = ["rpc.server.", "http.server.", "process."];
        let is_known = conventional.iter().any(|prefix| family.name.starts_with(prefix));
        assert!(is_known || family.name.starts_with("phasegate."), "{}", family.name);
        assert!(family.help.ends_with('.'), "{}", family.name);
        for (label, values) in &family.labels {
            assert!(is_name(label), "{label}");
            assert!(values.len() < 64, "{label} has {} values", values.len());
        }
    }
    assert!(families.len() > 40);
}

/// The lines of a metric, without the comments.
fn lines(metrics: &Metrics, name: &str) -> Vec<String> {
    let text = text::render(metrics);
    let of = text.lines().filter(|line| line.starts_with(name)).map(str::to_owned);
    of.collect()
}

#[test]
fn a_counter_by_label_shows_every_value_from_the_beginning() {
    let metrics = Metrics::default();
    metrics.transitions.of("PAUSED").add(2);
    let shown = lines(&metrics, "phasegate_release_transitions_total{");
    assert_eq!(shown.len(), 19);
    let paused = "phasegate_release_transitions_total{phasegate_event_type=\"PAUSED\"} 2";
    assert!(shown.contains(&paused.to_owned()), "{shown:?}");
    // A value that nobody has foreseen is no new series.
    for unforeseen in ["one", "another"] {
        metrics.transitions.of(unforeseen).add(1);
    }
    let shown = lines(&metrics, "phasegate_release_transitions_total{");
    assert_eq!(shown.len(), 20);
    assert!(shown[19].ends_with("{phasegate_event_type=\"_OTHER\"} 2"), "{shown:?}");
    assert_eq!(metrics.transitions.total(), 4);
}

#[test]
fn a_histogram_shows_its_buckets_as_sums_up_to_their_limits() {
    let metrics = Metrics::default();
    for millis in [0, 1, 2, 2000, 60_000] {
        metrics.sync_time.record(Duration::from_millis(millis));
    }
    let shown = lines(&metrics, "phasegate_store_sync_duration_seconds");
    let shows = |line: &str| assert!(shown.contains(&line.to_owned()), "{line}: {shown:?}");
    shows("phasegate_store_sync_duration_seconds_bucket{le=\"0.0001\"} 1");
    shows("phasegate_store_sync_duration_seconds_bucket{le=\"0.001\"} 2");
    shows("phasegate_store_sync_duration_seconds_bucket{le=\"0.0025\"} 3");
    shows("phasegate_store_sync_duration_seconds_bucket{le=\"2.5\"} 4");
    shows("phasegate_store_sync_duration_seconds_bucket{le=\"+Inf\"} 5");
    shows("phasegate_store_sync_duration_seconds_count 5");
    shows("phasegate_store_sync_duration_seconds_sum 62.003");
}

#[test]
fn a_call_is_counted_by_method_and_code() {
    let metrics = Metrics::default();
    assert!(lines(&metrics, "rpc_server_call_duration_seconds_").is_empty());
    for _ in 0..2 {
        metrics.rpc.record(["s/Method", "OK"], Duration::from_millis(3));
    }
    let shown = lines(&metrics, "rpc_server_call_duration_seconds_count");
    let labels = "rpc_system_name=\"grpc\",rpc_method=\"s/Method\",rpc_response_status_code=\"OK\"";
    assert_eq!(shown, [format!("rpc_server_call_duration_seconds_count{{{labels}}} 2")]);
}

#[test]
fn what_is_exposed_has_one_type_and_one_help_for_each_metric() {
    let metrics = Metrics::default();
    let text = text::render(&metrics);
    let types = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    let helps = text.lines().filter(|line| line.starts_with("# HELP ")).count();
    let families = metrics.families();
    assert_eq!((types, helps), (families.len(), families.len()));
    for family in families {
        let name = table::prometheus_name(&family);
        assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
    }
}
