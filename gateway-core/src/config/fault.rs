//! What is wrong with a document, and where: one fault, and the list of them that refuses a load.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that is wrong (or, in a list of warnings, doubtful), with its place.
///
/// Displays as `gateway.yaml:41:9  routes[2].plugins[0].options.audience: message`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Fault {
    /// The file, as the operator named it.
    pub file: String,
    /// Line, counted from 1; 0 when the fault concerns the file as a whole.
    pub line: usize,
    /// Column in characters, counted from 1; 0 when the fault concerns the file as a whole.
    pub column: usize,
    /// Place in the merged document; empty for the document as a whole.
    pub path: String,
    /// What is wrong and, where it is known, what to write instead.
    pub message: String,
}

impl Fault {
    /// A fault of a file as a whole: it cannot be read, it is too large.
    pub fn of_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: file.into(), line: 0, column: 0, path: String::new(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if self.path.is_empty() {
            return write!(f, "  {}", self.message);
        }
        write!(f, "  {}: {}", self.path, self.message)
    }
}

/// Why a document is refused: every fault found, sorted by file and line, never none.
///
/// Displays as one fault a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `Ok` when there is nothing to report.
    pub fn refuse_any(mut faults: Vec<Fault>) -> Result<(), Faults> {
        if faults.is_empty() {
            return Ok(());
        }
        faults.sort();
        faults.dedup();
        Err(Faults(faults))
    }

    /// The first of the faults that is known to be there, with the rest.
    pub(super) fn at_least(first: Fault, rest: impl IntoIterator<Item = Fault>) -> Self {
        let mut faults = vec![first];
        faults.extend(rest);
        faults.sort();
        Faults(faults)
    }

    /// The faults, sorted; at least one.
    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }

    /// The faults in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Faults(vec![fault])
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, fault) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(file: &str, line: usize) -> Fault {
        Fault { line, column: 9, path: "routes[2]".into(), ..Fault::of_file(file, "wrong") }
    }

    #[test]
    fn faults_are_sorted_by_file_and_line_one_a_line() {
        let faults = vec![fault("b.yaml", 1), fault("a.yaml", 20), fault("a.yaml", 3)];

        let refused = Faults::refuse_any(faults).unwrap_err();

        assert_eq!(
            refused.to_string(),
            "a.yaml:3:9  routes[2]: wrong\na.yaml:20:9  routes[2]: wrong\nb.yaml:1:9  routes[2]: wrong"
        );
    }

    #[test]
    fn fault_of_a_whole_file_names_no_line() {
        let fault = Fault::of_file("gateway.yaml", "cannot be read");

        assert_eq!(fault.to_string(), "gateway.yaml  cannot be read");
    }

    #[test]
    fn nothing_found_refuses_nothing() {
        assert!(Faults::refuse_any(Vec::new()).is_ok());
    }
}
