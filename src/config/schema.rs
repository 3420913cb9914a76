//! How a section of the configuration is declared.
//!
//! Owns the [`section!`] macro: from one declaration per key come the struct's field with its documentation, the
//! default, the reading and writing of the value, and the text that explains it in `ringmq.toml`.

use super::{rule::Raw, violation::Violation};

/// A struct whose fields are the keys of one section.
pub(super) trait Section: Sized + 'static {
    /// The section's name in the file.
    const NAME: &'static str;
    /// What the section is about, line by line.
    const DOC: &'static [&'static str];
    /// The keys, in the order of the file.
    const KEYS: &'static [Key<Self>];

    /// Reads `raw` into the field `key`; `None` when there is no such key.
    fn assign(&mut self, key: &str, raw: Raw<'_>) -> Option<Result<(), Violation>> {
        let key = Self::KEYS.iter().find(|known| known.name == key)?;
        Some((key.read)(self, raw))
    }
}

/// One key of the section `S`.
pub(super) struct Key<S> {
    /// The name in the file, which is the field's name.
    pub(super) name: &'static str,
    /// What it means, line by line, as the field's documentation says.
    pub(super) doc: &'static [&'static str],
    /// Reads a value into the field.
    pub(super) read: fn(&mut S, Raw<'_>) -> Result<(), Violation>,
    /// The field as TOML.
    pub(super) write: fn(&S) -> String,
}

/// Declares a section: `key: Type = default, rule;` for each key.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        [$section:literal] $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident: $kind:ty = $default:expr, $rule:expr; )+
        }
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nDefault: `", stringify!($default), "`.")]
                pub $field: $kind,
            )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $crate::config::schema::Section for $name {
            const NAME: &'static str = $section;
            const DOC: &'static [&'static str] = &[$($section_doc),+];
            const KEYS: &'static [$crate::config::schema::Key<Self>] = &[$(
                $crate::config::schema::Key {
                    name: stringify!($field),
                    doc: &[$($doc),+],
                    read: |section, raw| {
                        section.$field = $crate::config::rule::Rule::<$kind>::read(&$rule, raw)?;
                        Ok(())
                    },
                    write: |section| $crate::config::rule::Rule::<$kind>::write(&$rule, &section.$field),
                },
            )+];
        }
    };
}

pub(super) use section;
