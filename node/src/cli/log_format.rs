//! What a running node prints, as text for people or as a JSON object a line for programs that gather logs.
//!
//! Every object has `timestamp`, `level` and `message`. The fields of an event stand beside them, under their own names.

use std::fmt;

use clap::ValueEnum;
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// The form of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// A JSON object a line
    Json,
}

impl LogFormat {
    /// A line of the display in this form.
    pub fn line(self, line: &str) -> String {
        match self {
            Self::Text => line.to_owned(),
            Self::Json => {
                object("INFO", "spore", Map::from_iter([("message".to_owned(), line.trim().into())])).to_string()
            }
        }
    }
}

/// Writes events as JSON objects.
pub struct JsonEvents;

impl<S, N> FormatEvent<S, N> for JsonEvents
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let about = event.metadata();
        writeln!(writer, "{}", object(about.level().as_str(), about.target(), fields.0))
    }
}

fn object(level: &str, target: &str, fields: Map<String, Value>) -> Value {
    let mut now = String::new();
    // A time that cannot be told leaves the text empty.
    let _ = SystemTime.format_time(&mut Writer::new(&mut now));
    let mut all = Map::new();
    all.insert("timestamp".into(), now.into());
    all.insert("level".into(), level.into());
    all.insert("target".into(), target.into());
    for (name, value) in fields {
        // A field of an event does not take the place of the time or the level.
        let name = if all.contains_key(&name) { format!("{name}_") } else { name };
        all.insert(name, value);
    }
    Value::Object(all)
}

/// The fields of an event.
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Gathered(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Gathered {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_event_is_one_object_with_its_fields() {
        let gathered = Gathered::default();
        let writer = gathered.clone();
        let subscriber =
            tracing_subscriber::fmt().event_format(JsonEvents).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(count = 3, who = "a\n\"b\"", level = "mine", "two\nlines");
        });
        let text = String::from_utf8(gathered.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["message"], "two\nlines");
        assert_eq!((&object["level"], &object["level_"]), (&"WARN".into(), &"mine".into()));
        assert_eq!((&object["count"], &object["who"]), (&3.into(), &"a\n\"b\"".into()));
        assert!(object["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn line_of_the_display_is_an_object_in_json_only() {
        assert_eq!(LogFormat::Text.line("  node  a"), "  node  a");
        let object: Value = serde_json::from_str(&LogFormat::Json.line("  node  a")).unwrap();
        assert_eq!((&object["level"], &object["message"]), (&"INFO".into(), &"node  a".into()));
    }
}
