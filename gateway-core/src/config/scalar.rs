//! Text with a meaning: how such a type reads itself, and the table of formats the walk checks.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::str::FromStr;

use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};

/// Why a text is not what was expected; the message says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// A type written as one scalar of the document.
pub(super) trait Scalar: FromStr<Err = Invalid> + fmt::Display {
    /// The `format` of its JSON Schema, by which the walk finds its check.
    const FORMAT: &'static str;
    /// Completes "expected ...".
    const EXPECTS: &'static str;
    /// A regular expression for editors; the check decides.
    const PATTERN: &'static str;
    /// Whether a bare number is read too.
    const NUMBERS: bool = false;
    /// Makes what the text names independent of the directory it was written in.
    const RELOCATE: Option<fn(&str, &Path) -> String> = None;
}

/// A format of scalars as the walk sees it.
#[derive(Debug)]
pub(super) struct Format {
    pub name: &'static str,
    pub expects: &'static str,
    pub numbers: bool,
    pub check: fn(&str) -> Result<(), Invalid>,
    pub relocate: Option<fn(&str, &Path) -> String>,
}

impl Format {
    pub const fn of<T: Scalar>() -> Self {
        Self {
            name: T::FORMAT,
            expects: T::EXPECTS,
            numbers: T::NUMBERS,
            check: |text| T::from_str(text).map(drop),
            relocate: T::RELOCATE,
        }
    }

    /// The format a JSON Schema names, when it is one of ours.
    pub fn named(name: &str) -> Option<&'static Format> {
        FORMATS.iter().find(|format| format.name == name)
    }
}

static FORMATS: [Format; 18] = [
    Format::of::<super::units::Span>(),
    Format::of::<super::units::Size>(),
    Format::of::<super::units::Percent>(),
    Format::of::<super::server::Workers>(),
    Format::of::<super::access_log::LogOutput>(),
    Format::of::<super::name::Name>(),
    Format::of::<super::file_path::FilePath>(),
    Format::of::<super::address::ListenAddress>(),
    Format::of::<super::address::EndpointAddress>(),
    Format::of::<super::address::AdminAddress>(),
    Format::of::<super::address::Network>(),
    Format::of::<super::host::HostPattern>(),
    Format::of::<super::url_path::UrlPath>(),
    Format::of::<super::method::MethodName>(),
    Format::of::<super::status_range::StatusRange>(),
    Format::of::<super::pattern::Pattern>(),
    Format::of::<super::pattern::WholePattern>(),
    Format::of::<super::path_template::PathTemplate>(),
];

/// Deserializes, serializes and describes a [`Scalar`] through its text.
macro_rules! scalar {
    ($type:ty) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::config::scalar::read(deserializer)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                use $crate::config::scalar::Scalar;
                let types: &[&str] =
                    if Self::NUMBERS { &["string", "number"] } else { &["string"] };
                let mut schema = schemars::json_schema!({
                    "format": Self::FORMAT,
                    "pattern": Self::PATTERN,
                });
                let types = match types {
                    [one] => serde_json::json!(one),
                    many => serde_json::json!(many),
                };
                schema.insert("type".into(), types);
                schema
            }
        }
    };
}
pub(super) use scalar;

/// Reads a scalar from a string or, where the type allows it, from a number.
pub(super) fn read<'de, T: Scalar, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(ScalarVisitor(PhantomData))
}

/// Reads a list of the scalar `T` as a list of what it stands for.
pub(super) fn list<'de, T, U, D>(deserializer: D) -> Result<Vec<U>, D::Error>
where
    T: Scalar + DeserializeOwned + Into<U>,
    D: Deserializer<'de>,
{
    let items: Vec<T> = serde::Deserialize::deserialize(deserializer)?;
    Ok(items.into_iter().map(Into::into).collect())
}

struct ScalarVisitor<T>(PhantomData<T>);

impl<T: Scalar> ScalarVisitor<T> {
    fn number<E: Error>(number: impl fmt::Display) -> Result<T, E> {
        if !T::NUMBERS {
            return Err(E::custom(format!("expected {}, got the number {number}", T::EXPECTS)));
        }
        number.to_string().parse().map_err(E::custom)
    }
}

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTS)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        Self::number(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        Self::number(number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        Self::number(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_name_of_its_own() {
        for format in &FORMATS {
            let found = Format::named(format.name).unwrap();

            assert!(std::ptr::eq(found, format), "{} is listed twice", format.name);
        }
    }
}
