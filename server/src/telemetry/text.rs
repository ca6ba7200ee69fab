//! The text that Prometheus reads: its exposition format, version 0.0.4.

use super::{
    cells::{Point, Spread, Value},
    table::{Family, Metrics, prometheus_label, prometheus_name},
};
use std::fmt::Write as _;

/// What the text is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics as they stand.
pub fn render(metrics: &Metrics) -> String {
    let mut text = String::with_capacity(64 << 10);
    for family in metrics.families() {
        write_family(&mut text, &family).expect("writing to a String does not fail");
    }
    text
}

fn write_family(text: &mut String, family: &Family) -> std::fmt::Result {
    let name = prometheus_name(family);
    writeln!(text, "# HELP {name} {}", escape(&family.help))?;
    writeln!(text, "# TYPE {name} {}", family.kind.name())?;
    for Point { labels, value } in &family.points {
        let labels = |more: Option<&str>| {
            let label = |(name, value): &(&str, &str)| {
                format!("{}=\"{}\"", prometheus_label(name), escape(value).replace('"', "\\\""))
            };
            let mut all: Vec<_> = labels.iter().map(label).collect();
            all.extend(more.map(|bound| format!("le=\"{bound}\"")));
            if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
        };
        match value {
            Value::Count(count) => writeln!(text, "{name}{} {count}", labels(None))?,
            Value::Measure(measure) => writeln!(text, "{name}{} {measure}", labels(None))?,
            Value::Spread(Spread { bounds, counts, sum }) => {
                let mut below = 0;
                for (bound, count) in bounds.iter().zip(counts) {
                    below += count;
                    writeln!(text, "{name}_bucket{} {below}", labels(Some(&bound.to_string())))?;
                }
                let all: u64 = counts.iter().sum();
                writeln!(text, "{name}_bucket{} {all}", labels(Some("+Inf")))?;
                writeln!(text, "{name}_sum{} {sum}", labels(None))?;
                writeln!(text, "{name}_count{} {all}", labels(None))?;
            }
        }
    }
    Ok(())
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}
