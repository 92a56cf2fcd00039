//! Words of the command line.

/// The words behind the image's name: flags, and `key=value`.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a>(&'a str);

/// A word that does not say what it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadNumber<'a> {
    /// Its key.
    pub key: &'a str,
    /// What stands behind it.
    pub value: &'a str,
}

impl core::fmt::Display for BadNumber<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "the command line says {}={}; give a number, such as 16 or 0x10",
            self.key, self.value
        )
    }
}

impl core::error::Error for BadNumber<'_> {}

impl<'a> Options<'a> {
    /// The words of `line`, separated by white space.
    pub const fn new(line: &'a str) -> Self {
        Self(line)
    }

    /// What stands behind `key=`; the last one counts.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        let words = self.0.split_ascii_whitespace().rev();
        let mut values = words.filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        values.next()
    }

    /// The number behind `key=`, decimal or with 0x.
    ///
    /// # Errors
    /// If something else stands there.
    pub fn number(&self, key: &'a str) -> Result<Option<u64>, BadNumber<'a>> {
        let Some(value) = self.text(key) else {
            return Ok(None);
        };
        let number = match value.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => value.parse(),
        };
        number.map(Some).map_err(|_| BadNumber { key, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_by_their_whole_key() {
        let options = Options::new("demo  rounds=3 xrounds=4 seconds=0x10 queue=");
        assert_eq!(options.number("rounds"), Ok(Some(3)));
        assert_eq!(options.number("seconds"), Ok(Some(16)));
        assert_eq!(options.number("round"), Ok(None));
        assert_eq!(options.text("queue"), Some(""));
        assert_eq!(options.text("demo"), None);
    }

    #[test]
    fn the_last_of_several_counts() {
        assert_eq!(Options::new("a=1 a=2").text("a"), Some("2"));
    }

    #[test]
    fn what_is_no_number_is_named() {
        let error = Options::new("rounds=many").number("rounds").unwrap_err();
        assert_eq!((error.key, error.value), ("rounds", "many"));
        assert!(Options::new("a=0x").number("a").is_err());
        assert!(Options::new("a=-1").number("a").is_err());
        assert!(Options::new("a=18446744073709551616").number("a").is_err());
    }
}
