//! Reading the tables of a TOML file, with the line of everything.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{At, ConfigError, size};

/// Where the lines of a text begin.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self([0].into_iter().chain(ends).collect())
    }

    /// The line of the byte at `offset`, counted from 1.
    pub(super) fn line(&self, offset: usize) -> u32 {
        let before = self.0.partition_point(|&start| start <= offset);
        u32::try_from(before).unwrap_or(u32::MAX)
    }
}

/// One table of the file, all of whose keys are known.
pub(super) struct Block<'t> {
    table: &'t DeTable<'t>,
    lines: &'t Lines,
    /// The line of its header.
    pub(super) line: u32,
    /// How it is called in messages.
    pub(super) owner: String,
}

impl<'t> Block<'t> {
    /// The table, called `title`, if it has no other keys than `known`.
    pub(super) fn new(
        table: &'t DeTable<'t>,
        lines: &'t Lines,
        line: u32,
        title: &str,
        known: &[&str],
    ) -> Result<Self, ConfigError> {
        let unknown = table
            .keys()
            .filter(|key| !known.contains(&&**key.get_ref()));
        if let Some(key) = unknown.min_by_key(|key| key.span().start) {
            let message = format!(
                "{title}: unknown key '{}'; the keys are {}",
                key.get_ref().escape_debug(),
                known.join(", ")
            );
            return Err(ConfigError::new(lines.line(key.span().start), message));
        }
        Ok(Self {
            table,
            lines,
            line,
            owner: title.to_owned(),
        })
    }

    fn value(&self, key: &str) -> Option<At<&'t DeValue<'t>>> {
        let mut all = self.table.iter();
        let (_, value) = all.find(|(name, _)| name.get_ref() == key)?;
        Some(self.at(value))
    }

    fn at(&self, value: &'t Spanned<DeValue<'t>>) -> At<&'t DeValue<'t>> {
        At {
            line: self.lines.line(value.span().start),
            value: value.get_ref(),
        }
    }

    fn wrong_type(&self, key: &str, value: At<&DeValue<'_>>, wanted: &str) -> ConfigError {
        let article = match value.value {
            DeValue::Array(_) | DeValue::Integer(_) => "an",
            _ => "a",
        };
        value.error(format!(
            "{}: {key} is {article} {}; write {wanted}",
            self.owner,
            value.value.type_str()
        ))
    }

    /// A value that must be there. `example` is what could be written.
    pub(super) fn required<T>(
        &self,
        key: &str,
        value: Option<T>,
        example: &str,
    ) -> Result<T, ConfigError> {
        value.ok_or_else(|| {
            let message = format!("{} has no {key}; add {key} = {example}", self.owner);
            ConfigError::new(self.line, message)
        })
    }

    /// A string.
    pub(super) fn string(&self, key: &str) -> Result<Option<At<&'t str>>, ConfigError> {
        self.value(key)
            .map(|value| match value.value {
                DeValue::String(text) => Ok(At {
                    line: value.line,
                    value: &**text,
                }),
                _ => Err(self.wrong_type(key, value, "a string in quotes")),
            })
            .transpose()
    }

    /// A string that `parse` understands. `wanted` says what those are.
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        wanted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<At<T>>, ConfigError> {
        let Some(text) = self.string(key)? else {
            return Ok(None);
        };
        match parse(text.value) {
            Some(value) => Ok(Some(At {
                line: text.line,
                value,
            })),
            None => Err(text.error(format!(
                "{}: {key} is \"{}\"; write {wanted}",
                self.owner,
                text.value.escape_debug()
            ))),
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &str,
        choices: [(&str, T); 2],
    ) -> Result<Option<At<T>>, ConfigError> {
        let [(first, _), (second, _)] = choices;
        let wanted = format!("\"{first}\" or \"{second}\"");
        self.parsed(key, &wanted, |text| {
            let mut choices = choices.into_iter();
            choices.find_map(|(word, value)| (word == text).then_some(value))
        })
    }

    /// A number of bytes, written as a string such as `"64M"`.
    pub(super) fn size(&self, key: &str) -> Result<Option<At<u64>>, ConfigError> {
        let wanted = "a size such as \"64M\", with K, M or G";
        match self.value(key) {
            Some(value) if !matches!(value.value, DeValue::String(_)) => {
                Err(self.wrong_type(key, value, wanted))
            }
            _ => self.parsed(key, wanted, size::parse),
        }
    }

    /// True or false.
    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.value(key)
            .map(|value| match value.value {
                DeValue::Boolean(value) => Ok(*value),
                _ => Err(self.wrong_type(key, value, "true or false, without quotes")),
            })
            .transpose()
    }

    /// A number of a range.
    pub(super) fn integer<T>(
        &self,
        key: &str,
        range: &RangeInclusive<T>,
    ) -> Result<Option<At<T>>, ConfigError>
    where
        T: TryFrom<u64> + PartialOrd + core::fmt::Display,
    {
        let value = self.value(key);
        value
            .map(|value| self.number(key, value, range))
            .transpose()
    }

    /// An array of at most `limit` numbers of a range.
    pub(super) fn integers<T>(
        &self,
        key: &str,
        range: &RangeInclusive<T>,
        limit: usize,
    ) -> Result<Option<At<Vec<At<T>>>>, ConfigError>
    where
        T: TryFrom<u64> + PartialOrd + core::fmt::Display,
    {
        let Some(list) = self.value(key) else {
            return Ok(None);
        };
        let DeValue::Array(elements) = list.value else {
            return Err(self.wrong_type(key, list, "numbers in brackets, such as [1, 2]"));
        };
        if elements.len() > limit {
            let count = elements.len();
            return Err(list.error(format!(
                "{}: {key} has {count} elements; write at most {limit}",
                self.owner
            )));
        }
        let elements = elements.iter().map(|element| self.at(element));
        let numbers = elements.map(|element| self.number(key, element, range));
        Ok(Some(At {
            line: list.line,
            value: numbers.collect::<Result<_, _>>()?,
        }))
    }

    fn number<T>(
        &self,
        key: &str,
        value: At<&DeValue<'_>>,
        range: &RangeInclusive<T>,
    ) -> Result<At<T>, ConfigError>
    where
        T: TryFrom<u64> + PartialOrd + core::fmt::Display,
    {
        let (first, last) = (range.start(), range.end());
        let DeValue::Integer(number) = value.value else {
            let wanted = format!("a number from {first} to {last}, without quotes");
            return Err(self.wrong_type(key, value, &wanted));
        };
        u64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .map(|number| At {
                line: value.line,
                value: number,
            })
            .ok_or_else(|| {
                value.error(format!(
                    "{}: {key} is {number}; write a number from {first} to {last}",
                    self.owner
                ))
            })
    }

    /// The table under `key`, called `title` in messages.
    pub(super) fn table(
        &self,
        key: &str,
        title: &str,
        known: &[&str],
    ) -> Result<Option<Self>, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let DeValue::Table(table) = value.value else {
            return Err(self.wrong_type(key, value, &format!("{title} on a line of its own")));
        };
        Self::new(table, self.lines, value.line, title, known).map(Some)
    }

    /// The tables of the array under `key`, called `title` in messages.
    pub(super) fn tables(
        &self,
        key: &str,
        title: &str,
        known: &[&str],
    ) -> Result<Vec<Self>, ConfigError> {
        let Some(value) = self.value(key) else {
            return Ok(Vec::new());
        };
        let wanted = format!("{title}, in double brackets, on a line of its own");
        let DeValue::Array(elements) = value.value else {
            return Err(self.wrong_type(key, value, &wanted));
        };
        let elements = elements.iter().map(|element| self.at(element));
        elements
            .map(|element| match element.value {
                DeValue::Table(table) => Self::new(table, self.lines, element.line, title, known),
                _ => Err(self.wrong_type(key, element, &wanted)),
            })
            .collect()
    }
}
