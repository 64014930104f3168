//! Text on its way, line by line. A secret that stands on one line is found however the text is cut into
//! chunks; of those that stand on several, private keys are.

use super::Unreadable;
use super::rules::{Action, Rules};

/// A line that is longer is looked at in pieces, of which each overlaps the one before by a half: what is
/// shorter than that is found.
const LONGEST_LINE: usize = 32 * 1024;
/// A private key that does not end within so much is none; all of it is masked.
const LONGEST_KEY: usize = 64 * 1024;

/// Text on its way.
#[derive(Default)]
pub(super) struct Text {
    held: Vec<u8>,
    /// In a private key that was too long, until its end.
    swallows: bool,
    /// A secret has not ended; so much has to be held before it is looked for again.
    again: usize,
}

const KEY_END: &[u8] = b"-----END";

impl Text {
    /// Takes a chunk, and writes as much as can be told to be clean.
    pub(super) fn push(
        &mut self,
        rules: &Rules,
        chunk: &[u8],
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        // Text in two bytes a character has them, and would hide everything.
        if memchr::memchr(0, chunk).is_some() {
            return Err(Unreadable::Because("it is no text"));
        }
        self.held.extend_from_slice(chunk);
        if self.swallows && !self.swallowed(last) {
            return Ok(());
        }
        if !last && self.held.len() < self.again {
            return Ok(());
        }
        self.again = 0;
        let newline = memchr::memrchr(b'\n', &self.held).map(|at| at + 1);
        let mut cut = match newline {
            _ if last => self.held.len(),
            Some(cut) => cut,
            None if self.held.len() > LONGEST_LINE => self.held.len() / 2,
            None => return Ok(()),
        };
        let hits = rules.find(&self.held);
        // What reaches to the end of what is held may go on.
        let length = self.held.len();
        let goes_on = |end: usize, cut: usize| end > cut || (end == length && !last);
        let open = |cut: usize| hits.iter().find(|hit| hit.start < cut && goes_on(hit.end, cut));
        if let Some(hit) = open(cut) {
            cut = hit.start;
            if self.held.len() - cut > LONGEST_KEY {
                rules.write_clean(&self.held, 0, cut, &hits, out);
                rules.write(Action::Mask, &[], out);
                self.held.clear();
                self.swallows = true;
                return Ok(());
            }
            let open = self.held.len() - cut;
            self.again = open + open / 4;
        }
        rules.write_clean(&self.held, 0, cut, &hits, out);
        self.held.drain(..cut);
        Ok(())
    }

    /// Leaves out what is held up to the end of the key. False if that has not come.
    fn swallowed(&mut self, last: bool) -> bool {
        match memchr::memmem::find(&self.held, KEY_END) {
            Some(end) => {
                self.held.drain(..end + KEY_END.len());
                self.swallows = false;
                true
            }
            None => {
                let kept = if last { 0 } else { KEY_END.len().min(self.held.len()) };
                self.held.drain(..self.held.len() - kept);
                false
            }
        }
    }
}
