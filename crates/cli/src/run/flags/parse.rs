//! Reads keys and values, from the command line and from a file.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::builder::TypedValueParser;
use clap::error::ErrorKind;

use super::keys::{GROUPS, Group, Key, Meaning};
use super::{Change, Changes};

/// Reads the values of one option; `help` prints its keys.
#[derive(Clone, Copy)]
pub(crate) struct Keys(pub(crate) &'static Group);

impl TypedValueParser for Keys {
    type Value = Changes;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, clap::Error> {
        let Self(group) = self;
        let Some(text) = value.to_str() else {
            let message = format!("-{} {}: it is not UTF-8\n", group.short, value.display());
            return Err(clap::Error::raw(ErrorKind::InvalidUtf8, message).with_cmd(command));
        };
        if text == "help" || text == "help-long" {
            // Help needs no module, so it is printed before the rest of the command line is parsed.
            let printed = crate::options::print(&help(group));
            std::process::exit(i32::from(printed.is_err()));
        }
        let changes = text.split(',').map(|item| {
            let (name, value) = item.split_once('=').map_or((item, None), |(name, value)| (name, Some(value)));
            change(group, name, value).map_err(|why| {
                clap::Error::raw(ErrorKind::InvalidValue, format!("-{} {item}: {why}\n", group.short)).with_cmd(command)
            })
        });
        changes.collect()
    }
}

/// The change that a key with a value makes, or the reason why it is refused.
fn change(group: &Group, name: &str, value: Option<&str>) -> Result<Change, String> {
    let Some(key) = find(group, name) else {
        return Err(format!("`wasmtime run` has no such key; -{} help lists them", group.short));
    };
    match key.meaning {
        Meaning::Switch(change) => is_on(value).map(change),
        Meaning::Value(values, change) => match value {
            Some(value) => change(value),
            None => Err(format!("it needs a value; write {name}={values}")),
        },
        Meaning::Checked(values, check, _) => match value {
            Some(value) => check(value).map(|()| Change::Nothing),
            None => Err(format!("it needs a value; write {name}={values}")),
        },
        Meaning::NoSwitch(_) => is_on(value).map(|_| Change::Nothing),
        Meaning::NoValue(_) => Ok(Change::Nothing),
        Meaning::Never(why) => {
            if is_on(value)? {
                Err(format!("not supported: {why}"))
            } else {
                Ok(Change::Nothing)
            }
        }
        Meaning::Always(why) => {
            if is_on(value)? {
                Ok(Change::Nothing)
            } else {
                Err(format!("not supported: {why}"))
            }
        }
        Meaning::Refused(why) => Err(format!("not supported: {why}")),
    }
}

/// Finds a key. A key with exactly this name has precedence over a key that ends with `*`.
fn find(group: &Group, name: &str) -> Option<&'static Key> {
    let exact = group.keys.iter().find(|key| key.name == name);
    exact.or_else(|| group.keys.iter().find(|key| key.name.strip_suffix('*').is_some_and(|all| name.starts_with(all))))
}

fn is_on(value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("y" | "yes" | "true") => Ok(true),
        Some("n" | "no" | "false") => Ok(false),
        Some(other) => Err(format!("{other:?} is neither y nor n")),
    }
}

/// Parses a decimal or hexadecimal number, which may have underscores anywhere.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    number.map_err(|error| format!("{text:?} is no number: {error}"))
}

/// Parses a time: a whole number with a unit, or of seconds without one.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let in_unit: fn(u64) -> Duration = match unit {
        "" | "s" => Duration::from_secs,
        "ms" => Duration::from_millis,
        "us" | "μs" | "µs" => Duration::from_micros,
        "ns" => Duration::from_nanos,
        _ => return Err(format!("{unit:?} is no unit of time; there is s, ms, us and ns")),
    };
    number.parse().map(in_unit).map_err(|error| format!("{text:?} is no time: {error}"))
}

/// The help text: the keys of an option, and what they mean here.
fn help(group: &Group) -> String {
    let mut text = format!("Keys of -{}, --{}, and what they mean here:\n\n", group.short, group.long);
    for Key { name, meaning } in group.keys {
        let (values, says) = match meaning {
            Meaning::Switch(_) => ("[=y|n]".to_owned(), "as in `wasmtime run`".to_owned()),
            Meaning::Value(values, _) => (format!("={values}"), "as in `wasmtime run`".to_owned()),
            Meaning::Checked(values, _, why) => (format!("={values}"), format!("no effect: {why}")),
            Meaning::NoSwitch(why) => ("[=y|n]".to_owned(), format!("no effect: {why}")),
            Meaning::NoValue(why) => ("[=VALUE]".to_owned(), format!("no effect: {why}")),
            Meaning::Never(why) => ("=n".to_owned(), format!("=y is not supported: {why}")),
            Meaning::Always(why) => ("[=y]".to_owned(), format!("=n is not supported: {why}")),
            Meaning::Refused(why) => (String::new(), format!("not supported: {why}")),
        };
        let key = format!("{name}{values}");
        text += &format!("  -{} {key:<44} {says}\n", group.short);
    }
    text
}

/// Reads the changes that a configuration file makes. It has a table for each option, by the option's long name.
pub(crate) fn changes_of_file(path: &Path) -> anyhow::Result<Changes> {
    let text = std::fs::read_to_string(path).context("cannot read it")?;
    let tables: toml::Table = text.parse().context("it is not TOML")?;
    let mut changes = Vec::new();
    for (table, keys) in &tables {
        let group = GROUPS.iter().find(|group| group.long == table);
        let (Some(group), toml::Value::Table(keys)) = (group, keys) else {
            let known: Vec<_> = GROUPS.iter().map(|group| group.long).collect();
            bail!("{table}: there is no such table; there is {}", known.join(", "));
        };
        for (name, value) in keys {
            let value = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(on) => on.to_string(),
                other => bail!("{table}.{name}: a {} is no value of it", other.type_str()),
            };
            changes.push(change(group, name, Some(&value)).map_err(|why| anyhow!("{table}.{name}: {why}"))?);
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::super::keys::{CODEGEN, WASM};
    use super::*;

    #[test]
    fn numbers_and_times_are_read_as_wasmtime_reads_them() {
        for (text, expected) in [
            ("65536", Some(65536)),
            ("0x100000", Some(1 << 20)),
            ("1_000", Some(1000)),
            ("1M", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(number(text).ok(), expected, "{text}");
        }
        for (text, expected) in [
            ("1", Some(Duration::from_secs(1))),
            ("2s", Some(Duration::from_secs(2))),
            ("100ms", Some(Duration::from_millis(100))),
            ("5us", Some(Duration::from_micros(5))),
            ("7ns", Some(Duration::from_nanos(7))),
            ("0", Some(Duration::ZERO)),
            ("1m", None),
            ("1.5", None),
            ("1_0", None),
            ("ms", None),
            ("", None),
        ] {
            assert_eq!(time(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_switch_is_on_without_a_value() {
        for (value, expected) in [
            (None, Some(true)),
            (Some("y"), Some(true)),
            (Some("yes"), Some(true)),
            (Some("true"), Some(true)),
            (Some("n"), Some(false)),
            (Some("no"), Some(false)),
            (Some("false"), Some(false)),
            (Some("1"), None),
            (Some("on"), None),
            (Some(""), None),
        ] {
            assert_eq!(is_on(value).ok(), expected, "{value:?}");
        }
    }

    #[test]
    fn keys_are_found_by_their_whole_name_or_by_a_common_beginning() {
        assert_eq!(find(&CODEGEN, "cranelift-debug-verifier").map(|key| key.name), Some("cranelift-debug-verifier"));
        assert_eq!(find(&CODEGEN, "cranelift-opt_level").map(|key| key.name), Some("cranelift-*"));
        assert_eq!(find(&WASM, "sim").map(|key| key.name), None);
        assert_eq!(find(&WASM, "").map(|key| key.name), None);
    }
}
