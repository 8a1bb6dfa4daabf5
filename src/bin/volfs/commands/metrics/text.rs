//! The text format of Prometheus, and which figures stand in it.

use std::fmt::{Display, Write};

use serde_json::Value;
use volfs::fuse::stats::BUCKETS;
use volfs::volume::{TrashedVolume, VolumeInfo};

/// The figures so far.
#[derive(Default)]
pub struct Text(String);

impl Text {
    /// Begins a family: what follows are its samples.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail; so below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A sample with its labels.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0 += name;
        if !labels.is_empty() {
            let labels: Vec<String> = labels
                .iter()
                .map(|(key, value)| format!("{key}=\"{}\"", escaped(value)))
                .collect();
            let _ = write!(self.0, "{{{}}}", labels.join(","));
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// A family of one sample.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The figures of each volume.
    pub fn volumes(&mut self, list: &[VolumeInfo], stats: &Value) {
        let counter = |info: &VolumeInfo, name: &str| {
            let counters = &stats["volumes"][info.name.as_str()];
            // The counters of one that had the name before are not its own.
            let own = counters["id"] == info.id.to_string();
            Some(if own {
                counters[name].as_u64().unwrap_or(0)
            } else {
                0
            })
        };
        type Figure<'a> = &'a dyn Fn(&VolumeInfo) -> Option<u64>;
        let families: [(&str, &str, &str, Figure<'_>); 9] = [
            (
                "used_bytes",
                "gauge",
                "What a volume is charged.",
                &|info| Some(info.used.bytes.0),
            ),
            (
                "limit_bytes",
                "gauge",
                "The most that it may hold: its quota, or a disk volume's size.",
                &|info| info.capacity().map(|bytes| bytes.0),
            ),
            ("used_inodes", "gauge", "Inodes that it holds.", &|info| {
                Some(info.used.inodes)
            }),
            (
                "limit_inodes",
                "gauge",
                "The most inodes that it may hold.",
                &|info| info.inodes_in_force(),
            ),
            (
                "open_files",
                "gauge",
                "Files that are open in it.",
                &|info| counter(info, "open_files"),
            ),
            (
                "requests_total",
                "counter",
                "Requests of the kernel.",
                &|info| counter(info, "requests"),
            ),
            (
                "errors_total",
                "counter",
                "Requests that were refused.",
                &|info| counter(info, "errors"),
            ),
            (
                "read_bytes_total",
                "counter",
                "Bytes read through the daemon.",
                &|info| counter(info, "daemon_read_bytes"),
            ),
            (
                "written_bytes_total",
                "counter",
                "Bytes written through the daemon.",
                &|info| counter(info, "daemon_written_bytes"),
            ),
        ];
        for (name, kind, help, figure) in families {
            let name = format!("volfs_volume_{name}");
            self.family(&name, kind, help);
            for info in list {
                if let Some(value) = figure(info) {
                    let (id, kind) = (info.id.to_string(), info.kind.to_string());
                    let labels = [("volume", info.name.as_str()), ("id", &id), ("kind", &kind)];
                    self.sample(&name, &labels, value);
                }
            }
        }
    }

    /// What is in the trash.
    pub fn trash(&mut self, trash: &[TrashedVolume]) {
        self.single(
            "volfs_trash_volumes",
            "gauge",
            "Volumes in the trash.",
            trash.len(),
        );
        self.single(
            "volfs_trash_used_bytes",
            "gauge",
            "What the volumes in the trash were charged.",
            trash
                .iter()
                .map(|trashed| trashed.info.used.bytes.0)
                .sum::<u64>(),
        );
    }

    /// The figures of the mount as a whole, and of each operation.
    pub fn operations(&mut self, stats: &Value) {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        for (name, kind, help) in [
            ("open_files", "gauge", "Open files."),
            (
                "open_files_passthrough",
                "gauge",
                "Open files that the kernel reads and writes by itself.",
            ),
            ("cached_nodes", "gauge", "Inodes that the kernel knows."),
            (
                "attached_disks",
                "gauge",
                "Disk volumes whose image is mounted.",
            ),
            (
                "daemon_read_bytes",
                "counter",
                "Bytes read through the daemon.",
            ),
            (
                "daemon_written_bytes",
                "counter",
                "Bytes written through the daemon.",
            ),
            (
                "store_size_bytes",
                "gauge",
                "Size of the file system that the store lies on.",
            ),
            (
                "store_available_bytes",
                "gauge",
                "What is left of it for users other than root.",
            ),
            (
                "store_full_refusals",
                "counter",
                "Changes that were refused because the store's disk is full.",
            ),
        ] {
            let total = if kind == "counter" { "_total" } else { "" };
            self.single(
                &format!("volfs_{name}{total}"),
                kind,
                help,
                number(&stats[name]),
            );
        }
        let operations = || stats["operations"].as_object().into_iter().flatten();
        let errors = "volfs_request_errors_total";
        self.family(
            errors,
            "counter",
            "Requests that were refused, by operation.",
        );
        for (name, operation) in operations() {
            self.sample(errors, &[("operation", name)], number(&operation["errors"]));
        }
        let duration = "volfs_request_duration_seconds";
        self.family(
            duration,
            "histogram",
            "Time that requests took, by operation.",
        );
        for (name, operation) in operations() {
            self.histogram(duration, name, operation);
        }
    }

    /// Bucket `i` of the counters holds what took less than 2^i microseconds;
    /// the last may hold anything slower, and so is part of `+Inf` alone.
    fn histogram(&mut self, name: &str, operation: &str, counters: &Value) {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let buckets = counters["latency_log2_us"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let bucket = format!("{name}_bucket");
        let mut seen = 0;
        for (exponent, count) in buckets.iter().take(BUCKETS - 1).enumerate() {
            seen += number(count);
            let bound = (1_u64 << exponent) as f64 / 1e6;
            self.sample(
                &bucket,
                &[("operation", operation), ("le", &bound.to_string())],
                seen,
            );
        }
        let count = buckets.iter().map(number).sum::<u64>();
        self.sample(&bucket, &[("operation", operation), ("le", "+Inf")], count);
        let seconds = number(&counters["nanoseconds"]) as f64 / 1e9;
        self.sample(&format!("{name}_sum"), &[("operation", operation)], seconds);
        self.sample(&format!("{name}_count"), &[("operation", operation)], count);
    }

    /// All of it.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// A label's value: backslash, quote and line feed are escaped.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_adds_up() {
        let mut text = Text::default();
        let counters = serde_json::json!({
            "count": 6, "nanoseconds": 1_500_000_000_u64, "latency_log2_us": [1, 0, 2, 3],
        });
        text.histogram("h", "read", &counters);
        let wanted = [
            r#"h_bucket{operation="read",le="0.000001"} 1"#,
            r#"h_bucket{operation="read",le="0.000002"} 1"#,
            r#"h_bucket{operation="read",le="0.000004"} 3"#,
            r#"h_bucket{operation="read",le="0.000008"} 6"#,
            r#"h_bucket{operation="read",le="+Inf"} 6"#,
            r#"h_sum{operation="read"} 1.5"#,
            r#"h_count{operation="read"} 6"#,
        ];
        assert_eq!(text.into_string().lines().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn label_values_are_escaped() {
        let mut text = Text::default();
        text.sample("a", &[("b", "c\\d\"e\nf")], 1);
        assert_eq!(text.into_string(), "a{b=\"c\\\\d\\\"e\\nf\"} 1\n");
    }
}
