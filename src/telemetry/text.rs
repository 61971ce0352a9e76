//! Renders the metrics as text.

use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    registry::Registry,
};

use super::process;

/// A format of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextFormat {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's own, 0.0.4, which every tool reads.
    Prometheus,
}

impl TextFormat {
    /// The one that a scraper accepts.
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        let is_open = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
        if is_open {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// Its Content-Type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Renders all of these, and the metrics of this process.
pub(crate) fn of_program(own: &Registry, form: TextFormat) -> String {
    let process = &process::registry();
    let mut text = String::new();
    let written = encode_registry(&mut text, own)
        .and_then(|()| encode_registry(&mut text, process))
        .and_then(|()| encode_eof(&mut text));
    if written.is_err() {
        text.clear(); // a String takes all that is written
    }
    // a family without labels writes an empty list of them, which no parser expects; no label of ours contains that
    let text = text.replace("{} ", " ");
    match form {
        TextFormat::OpenMetrics => text,
        TextFormat::Prometheus => prometheus(&text),
    }
}

/// OpenMetrics names a counter without its suffix where it describes it; the older format knows neither that nor an end.
fn prometheus(openmetrics: &str) -> String {
    let is_counter = |name: &str| openmetrics.contains(&format!("# TYPE {name} counter\n"));
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if is_counter(name) => {
                text.push_str(&format!("# {what} {name}_total {rest}\n"));
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_described_by_its_whole_name_in_the_older_format() {
        let openmetrics = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total{x=\"# y\"} 1\n# HELP c C.\n# TYPE c gauge\nc 2\n# EOF\n";
        assert_eq!(
            prometheus(openmetrics),
            "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total{x=\"# y\"} 1\n# HELP c C.\n# TYPE c gauge\nc 2\n"
        );
    }

    #[test]
    fn a_scraper_gets_a_format_that_it_accepts() {
        let open = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3";
        assert_eq!(TextFormat::accepted(Some(open)), TextFormat::OpenMetrics);
        for accept in [None, Some("*/*"), Some("text/plain")] {
            assert_eq!(TextFormat::accepted(accept), TextFormat::Prometheus);
        }
    }
}
